"""TensorRT 8.6 (JetPack 6.0): what its builder lacks, and how a plan gets the graph's types all the same.

Its networks are not strongly typed: TensorRT chooses the precision of a layer, unless the layer asks for one and the
builder must obey. So every layer asks for the type that it has in the graph. Its parser reads ONNX up to opset 17.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import onnx
from onnx import TensorProto, defs, helper, numpy_helper

from iern.runtime.errors import EngineError

OPSET, IR_VERSION = 17, 8
"""The newest that TensorRT 8.6 reads."""
AXES_AS_INPUT = 18
"""The opset from which on ReduceMean has its axes as an input instead of an attribute."""
TYPES = {TensorProto.FLOAT: "FLOAT", TensorProto.FLOAT16: "HALF"}
"""The types of numbers between which TensorRT may choose: ONNX's -> the name of TensorRT's."""
HAVE_THEIR_TYPE = ("CAST", "CONSTANT", "SHAPE")
"""Kinds of layers whose type is in themselves."""


def check_version(trt: ModuleType) -> None:
    """Raise EngineError if this TensorRT 8 is older than 8.6."""
    if not hasattr(getattr(trt, "PreviewFeature", None), "PROFILE_SHARING_0806"):
        raise EngineError(
            f"TensorRT {trt.__version__} is too old: expected 8.6 or newer; update JetPack to 6.0 or newer, or "
            "pip install tensorrt on a PC"
        )


def network_flag(trt: ModuleType) -> int:
    """The flag that the number of faces is a dimension of its own, which newer versions take for granted."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def lowered(graph: bytes) -> onnx.ModelProto:
    """An exported graph of opset 18 -> the same in opset 17. Raises EngineError if it has an operation without a twin.

    Of the operations that an export writes, only ReduceMean differs: its axes become an attribute.
    """
    model = onnx.load_from_string(graph)
    version = next(each.version for each in model.opset_import if not each.domain)
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if version <= OPSET or _is_same(node.op_type, version):
            continue
        if node.op_type != "ReduceMean" or len(node.input) != 2 or node.input[1] not in values:
            raise EngineError(
                f"TensorRT 8.6 reads ONNX up to opset {OPSET}, and this graph's {node.op_type} has no form there; "
                "update to JetPack 6.1 or newer"
            )
        axes = numpy_helper.to_array(values[node.input.pop()]).tolist()
        kept = [attribute for attribute in node.attribute if attribute.name == "keepdims"]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("axes", axes)])
    read = {name for node in model.graph.node for name in node.input}
    unread = [tensor for tensor in model.graph.initializer if tensor.name not in read]
    for tensor in unread:
        model.graph.initializer.remove(tensor)
    del model.opset_import[:]
    model.opset_import.append(helper.make_operatorsetid("", min(version, OPSET)))
    model.ir_version = min(model.ir_version, IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def _is_same(operation: str, version: int) -> bool:
    return bool(defs.get_schema(operation, version).since_version == defs.get_schema(operation, OPSET).since_version)


def value_types(model: onnx.ModelProto) -> dict[str, str]:
    """Name -> TensorRT's name of its type, for all values of the graph in single or half precision."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name: TYPES[kind] for name, kind in types.items() if kind in TYPES}


def hold_types(trt: ModuleType, network: Any, config: Any, types: Mapping[str, str]) -> None:
    """Let every layer compute in the type that its output has in the graph, and let the builder obey.

    A layer that the parser adds between two of the graph has the type of what it reads. Layers of integers stay alone.
    """
    known = dict(types)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        outputs = [layer.get_output(number) for number in range(layer.num_outputs)]
        if layer.type.name in HAVE_THEIR_TYPE or outputs[0].dtype.name not in TYPES.values():
            continue
        inputs = (layer.get_input(number) for number in range(layer.num_inputs))
        read = (known.get(tensor.name) for tensor in inputs if tensor is not None)
        kind = known.get(outputs[0].name) or next(filter(None, read), "FLOAT")
        layer.precision = trt.DataType.__members__[kind]
        for number, tensor in enumerate(outputs):
            known[tensor.name] = kind
            layer.set_output_type(number, trt.DataType.__members__[kind])
    for tensor in map(network.get_output, range(network.num_outputs)):
        if tensor.name in known:
            tensor.dtype = trt.DataType.__members__[known[tensor.name]]
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    if "HALF" in known.values():
        config.set_flag(trt.BuilderFlag.FP16)
    # As newer versions do: each profile may serve more than one context.
    config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
