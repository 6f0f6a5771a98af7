"""Counts multiply-adds: in an exported graph by its nodes' shapes, in a network by what PyTorch executes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx
import torch
from onnx import helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from iern.train.network.iern import Baseline

PARTS = ("backbone", "generator", "head")
"""f_b, g_e, and all after them: g_r and f_c for every stratum."""

NAIVE_PARTS = {"backbone": ("backbone",), "generator": ("emotion_generator",), "head": ("reconstruction", "classifier")}
GRAPH_PARTS = {"backbone": "backbone", "generator": "generator", "head": "head", "tail": "head"}
"""The first word of a node's name and the part it belongs to."""


def macs_of_graph(content: bytes) -> dict[str, int]:
    """Multiply-adds for one face of the convolutions and matrix products in an exported file, by part.

    Sums, activations and pooling are not counted. Raises ValueError if a shape stays unknown.
    """
    model = onnx.load_from_string(content)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = _shapes(model.graph)
    counted = dict.fromkeys(PARTS, 0)
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            counted[GRAPH_PARTS[node.name.replace("/", ".").split(".")[0]]] += _macs(node, shapes)
    return counted


def macs_of_network(network: Baseline) -> dict[str, int]:
    """Multiply-adds for one face of the published network, one stratum after another, by part."""
    size = network.config.image_size
    image = torch.zeros(1, 3, size, size, device=next(network.parameters()).device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    flops = {name: sum(by_operation.values()) for name, by_operation in counter.get_flop_counts().items()}
    owner = type(network).__name__
    # The counter counts a multiply-add as two operations.
    return {part: sum(flops.get(f"{owner}.{name}", 0) for name in NAIVE_PARTS[part]) // 2 for part in PARTS}


def _macs(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    for name in (*node.input[:2], node.output[0]):
        if not all(shapes.get(name, (0,))):
            raise ValueError(f"{node.name}: no shape found for {name!r}; expected a graph of export_onnx")
    left, right, written = (shapes[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        return math.prod(written) * math.prod(right[1:])  # the weight is (out, in / groups, k, k)
    transposed = any(entry.name == "transA" and helper.get_attribute_value(entry) for entry in node.attribute)
    return math.prod(written) * left[0 if transposed else -1]


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Every value's shape; a dimension that inference did not find is 0."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            shapes[node.output[0]] = numpy_helper.to_array(node.attribute[0].t).shape
    return shapes
