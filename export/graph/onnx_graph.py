"""Deconfounded network -> one ONNX file that describes itself. It holds nothing about the machine that made it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

import onnx
import torch

from iern.export.graph.deconfound import Deconfounded
from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, TAIL_INPUTS, Artifact

OPSET = 18
"""TensorRT reads it since 9.0, onnxruntime since 1.14."""


def export_onnx(network: Deconfounded, artifact: Artifact) -> bytes:
    """The file's content: a graph from `image` (batch, S, S, 3) uint8 to the contract's three outputs, for any batch.

    The same weights give the same bytes. Nodes are named after the module that they come from, so the graph can be cut
    at its parts: `backbone…`, `generator…`, `head…`, `tail…`.
    """
    model = _translate(network, artifact.input.size)
    _name_by_module(model.graph)
    _strip(model)
    return with_metadata(model, artifact).SerializeToString(deterministic=True)


def with_metadata(model: onnx.ModelProto, artifact: Artifact) -> onnx.ModelProto:
    """Replace the model's description by the artifact's, check the model and return it."""
    onnx.helper.set_model_props(model, artifact.to_metadata())
    onnx.checker.check_model(model, full_check=True)
    return model


def _translate(network: Deconfounded, size: int) -> onnx.ModelProto:
    # With a batch of 1 the exporter would take the 1 for a constant.
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's warnings about itself, for its developers
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
    assert program is not None  # the exporter returns None only after it has written a file itself
    return program.model_proto


def _name_by_module(graph: onnx.GraphProto) -> None:
    """Name each node and its outputs after its module and operation, and the tail's inputs `u` and `h`."""
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
    """The dotted name of the module that a node was exported from. Empty for the network itself."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            *modules, _operation = ast.literal_eval(entry.value)
            return modules[-1] if modules else ""
    return ""


def _entering_tail(graph: onnx.GraphProto, modules: list[str]) -> Iterator[str]:
    """The values that are written before the tail and read inside it, in the order of writing."""
    inside = [module.split(".")[0] == "tail" for module in modules]
    read = {name for node, tail in zip(graph.node, inside, strict=True) if tail for name in node.input}
    for node, tail in zip(graph.node, inside, strict=True):
        if not tail:
            yield from (name for name in node.output if name in read)


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes for its developers: stack traces with this machine's paths, sources, shapes."""
    graph = model.graph
    # The shapes of inner values follow from the graph, and these entries still have the old names.
    del graph.value_info[:]
    for proto in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        proto.ClearField("doc_string")
        proto.ClearField("metadata_props")
    graph.name = "iern"
    model.producer_name = "iern"
    model.ClearField("producer_version")  # the metadata has the versions
