"""Cuts an exported graph before its tail: the trunk for TensorRT, and the tail's weights for the kernel.

The exporter names the maps that enter the tail, and names the tail's nodes after the modules of
`iern.export.graph.deconfound`.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.utils import Extractor

from iern.cpp_ext.tail_weights import TailWeights, pooled_weights, tail_weights
from iern.runtime.artifact import INPUT_NAME, TAIL_INPUTS
from iern.runtime.errors import EngineError

POOLED = "tail.classifier.linear/Gemm"
OF_MEAN, OF_WINDOWS = "tail.of_mean/Gemm", "tail.of_windows/Gemm"


def cut_before_tail(model: onnx.ModelProto) -> tuple[onnx.ModelProto, TailWeights]:
    """An exported graph -> the graph from `image` to the maps `u` and, if there is one, `h`; and the tail's weights.

    Raises EngineError for a graph that `export/graph/onnx_graph.py` did not write.
    """
    # The new outputs need the maps' shapes, which are not in the file.
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in model.graph.value_info}
    maps = [name for name in TAIL_INPUTS if name in shapes]
    layers = _linear_layers(model.graph)
    expected = {OF_MEAN, OF_WINDOWS} if len(maps) == len(TAIL_INPUTS) else {POOLED}
    if not maps or not expected <= layers.keys():
        found = ", ".join([*maps, *layers]) or "nothing"
        raise EngineError(
            f"the graph's tail is not known: it has {found}, expected {', '.join([*TAIL_INPUTS, *sorted(expected)])}; "
            "export the checkpoint again, or use --head native"
        )
    height, width = (dim.dim_value for dim in shapes[maps[0]][2:])
    trunk = Extractor(model).extract_model([INPUT_NAME], maps)
    onnx.checker.check_model(trunk, full_check=True)
    return trunk, _tail_weights(layers, (height, width))


def _linear_layers(graph: onnx.GraphProto) -> dict[str, tuple[NDArray, NDArray]]:
    """The tail's matrix products: name -> weight (E, ...) and bias (E,), which is zero if the product has none.

    Found by the node that reads them: the exporter keeps equal tensors once, under one of their names.
    """
    values = {tensor.name: tensor for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.name in (POOLED, OF_MEAN, OF_WINDOWS):
            weight, *bias = (numpy_helper.to_array(values[name]) for name in node.input[1:])
            found[node.name] = weight, bias[0] if bias else np.zeros(len(weight), np.float32)
    return found


def _tail_weights(layers: dict[str, tuple[NDArray, NDArray]], map_size: tuple[int, int]) -> TailWeights:
    if OF_WINDOWS not in layers:
        of_mean, bias = layers[POOLED]
        return pooled_weights(of_mean, bias, map_size)
    (of_mean, _), (of_windows, bias) = layers[OF_MEAN], layers[OF_WINDOWS]
    return tail_weights(of_mean, of_windows, bias, map_size)
