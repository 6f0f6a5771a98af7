"""An exported graph cut before its tail: the trunk for TensorRT, and the tail's weights for the kernel.

The exporter names the maps that enter the tail, and the tail's weights after its modules; see `iern.export.deconfound`.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.utils import Extractor

from iern.runtime.artifact import INPUT_NAME, TAIL_INPUTS
from iern.runtime.engine_file import TailWeights
from iern.runtime.errors import EngineError

POOLED = "tail.classifier.linear"
OF_MEAN, OF_WINDOWS = "tail.of_mean", "tail.of_windows"


def cut_before_tail(model: onnx.ModelProto) -> tuple[onnx.ModelProto, TailWeights]:
    """An exported graph -> the graph from `image` to the map `u`, and `h` where there is one, and the rest's weights.

    Raises EngineError for a graph that `export/to_onnx.py` did not write.
    """
    # The maps' shapes are needed for the outputs' and are not in the file.
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in model.graph.value_info}
    maps = [name for name in TAIL_INPUTS if name in shapes]
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name.startswith("tail.")}
    expected = {f"{POOLED}.weight", f"{POOLED}.bias"}
    if len(maps) == len(TAIL_INPUTS):
        expected = {f"{OF_MEAN}.weight", f"{OF_WINDOWS}.weight", f"{OF_WINDOWS}.bias"}
    if not maps or not expected <= weights.keys():
        found = ", ".join([*maps, *weights]) or "nothing"
        raise EngineError(
            f"the graph's tail is not known: it has {found}, expected {', '.join([*TAIL_INPUTS, *sorted(expected)])}; "
            "export the checkpoint again, or use --head native"
        )
    height, width = (dim.dim_value for dim in shapes[maps[0]][2:])
    values = {name: numpy_helper.to_array(weights[name]) for name in expected}
    trunk = Extractor(model).extract_model([INPUT_NAME], maps)
    onnx.checker.check_model(trunk, full_check=True)
    return trunk, _tail(values, height * width)


def _tail(values: dict[str, NDArray], pixels: int) -> TailWeights:
    """Weights of means -> weights of sums over the pixels, as the kernel takes them."""
    if f"{POOLED}.weight" in values:
        of_sum = values[f"{POOLED}.weight"].astype(np.float64) / pixels
        return TailWeights(of_sum[..., None].astype(np.float32), values[f"{POOLED}.bias"].astype(np.float32))
    of_sum = values[f"{OF_MEAN}.weight"].astype(np.float64) / pixels
    of_windows = values[f"{OF_WINDOWS}.weight"].reshape(*of_sum.shape, 9)  # divided by the pixels already
    table = np.concatenate([of_sum[..., None], of_windows], axis=-1)
    return TailWeights(table.astype(np.float32), values[f"{OF_WINDOWS}.bias"].astype(np.float32))
