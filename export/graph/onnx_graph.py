"""Deconfounded network -> one ONNX file that describes itself and holds nothing of the machine that made it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

import onnx
import torch

from iern.export.graph.deconfound import Deconfounded
from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, TAIL_INPUTS, Artifact

OPSET = 18
"""Read by TensorRT since 9.0 and by onnxruntime since 1.14; nothing newer is needed."""


def export_onnx(network: Deconfounded, artifact: Artifact) -> bytes:
    """The file's content: `image` (batch, S, S, 3) uint8 -> the three outputs of the contract, any batch from 1.

    The same weights give the same bytes. Nodes are named for the module they come from, so the graph can be split at
    its parts: `backbone…`, `generator…`, `head…`, `tail…`.
    """
    model = _translate(network, artifact.input.size)
    _name_by_module(model.graph)
    _strip(model)
    return with_metadata(model, artifact).SerializeToString(deterministic=True)


def with_metadata(model: onnx.ModelProto, artifact: Artifact) -> onnx.ModelProto:
    """The model with the artifact's description instead of the one it had, if any; checked."""
    onnx.helper.set_model_props(model, artifact.to_metadata())
    onnx.checker.check_model(model, full_check=True)
    return model


def _translate(network: Deconfounded, size: int) -> onnx.ModelProto:
    # Of a batch of one the exporter would take the one for a constant.
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks of the exporter about itself, for its developers
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None  # None stands for a file written, and none was asked for
    return program.model_proto


def _name_by_module(graph: onnx.GraphProto) -> None:
    """Call each node, and what it writes, by its module and operation, and the tail's inputs `u` and `h`."""
    modules = [_module(node) for node in graph.node]
    names: dict[str, str] = {}
    taken: dict[str, int] = {}
    for node, module in zip(graph.node, modules, strict=True):
        wanted = f"{module}/{node.op_type}"
        taken[wanted] = taken.get(wanted, 0) + 1
        node.name = wanted if taken[wanted] == 1 else f"{wanted}_{taken[wanted]}"
        for index, output in enumerate(node.output):
            names[output] = node.name if index == 0 else f"{node.name}:{index}"
    names.update(zip(_entering_tail(graph, modules), TAIL_INPUTS, strict=False))
    names.update((output.name, output.name) for output in graph.output)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]


def _module(node: onnx.NodeProto) -> str:
    """Dotted name of the module that a node was exported from, empty for the network itself."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            *modules, _operation = ast.literal_eval(entry.value)
            return modules[-1] if modules else ""
    return ""


def _entering_tail(graph: onnx.GraphProto, modules: list[str]) -> Iterator[str]:
    """Values written before the tail and read inside it, in the order in which they were written."""
    inside = [module.split(".")[0] == "tail" for module in modules]
    read = {name for node, tail in zip(graph.node, inside, strict=True) if tail for name in node.input}
    for node, tail in zip(graph.node, inside, strict=True):
        if not tail:
            yield from (name for name in node.output if name in read)


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter noted for its developers: stack traces with this machine's paths, sources, shapes."""
    graph = model.graph
    # Shapes of inner values follow from the graph, and these still bear the names from before the renaming.
    del graph.value_info[:]
    for proto in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        proto.ClearField("doc_string")
        proto.ClearField("metadata_props")
    graph.name = "iern"
    model.producer_name = "iern"
    model.ClearField("producer_version")  # versions stand in the metadata
