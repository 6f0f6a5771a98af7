"""A graph cut before its tail: trunk and tail, computed one after the other, give the outputs of the whole graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from doubles.tiny_artifact import tiny_model
from doubles.tiny_export import exported_tiny
from doubles.tiny_network import random_faces, tiny_config, tiny_network
from iern.cpp_ext.torch_operator import strata_tail
from iern.export.graph.cut import cut_before_tail
from iern.export.parity.exact import outputs_of_network
from iern.export.parity.model_outputs import outputs_of_file
from iern.runtime.errors import EngineError

CONFIGS = {
    "iern": {},
    "mean of softmaxes": {"answer": "probabilities"},
    "block paper": {"block": "paper"},
    "disentanglement": {"method": "disentanglement"},
    "baseline": {"method": "baseline"},
    "mirrored": {"mirrored": True},
    "mirrored disentanglement": {"method": "disentanglement", "mirrored": True},
}
FACES = random_faces(5)


def outputs_by_parts(graph: bytes, model) -> tuple[np.ndarray, ...]:
    """Trunk in onnxruntime, tail by PyTorch's operations."""
    trunk, tail = cut_before_tail(onnx.load_from_string(graph))
    session = onnxruntime.InferenceSession(trunk.SerializeToString(), providers=["CPUExecutionProvider"])
    u, *h = map(torch.from_numpy, session.run(None, {"image": FACES}))
    strata = len(model.config.strata) if model.config.method == "iern" else 1
    weights = (torch.from_numpy(tail.weight), torch.from_numpy(tail.bias))
    outputs = strata_tail(u, h[0] if h else None, *weights, strata, 1.0, model.config.answer)
    return tuple(tensor.numpy() for tensor in outputs)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_parts_give_the_outputs_of_the_network_in_float64(name):
    model = tiny_network(tiny_config(**CONFIGS[name]))
    expected = outputs_of_network(model, FACES, 1.0, torch.float64)
    for found, value in zip(outputs_by_parts(exported_tiny(model), model), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=0, atol=2e-5 * np.abs(expected.logits).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_the_parts_give_the_outputs_of_the_whole_file_in_half_precision(name):
    model = tiny_network(tiny_config(**CONFIGS[name]))
    graph = exported_tiny(model, trunk=torch.float16)
    expected = outputs_of_file(graph, FACES)
    for found, value in zip(outputs_by_parts(graph, model), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=0, atol=5e-3 * np.ptp(expected.logits))


def test_weights_that_are_stored_once_because_they_are_equal_are_found():
    model = tiny_network()
    with torch.no_grad():
        for module in model.modules():
            if getattr(module, "bias", None) is not None:
                module.bias.zero_()
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.zero_()
    expected = outputs_of_network(model, FACES, 1.0, torch.float64)
    found = outputs_by_parts(exported_tiny(model), model)
    np.testing.assert_allclose(found[1], expected.logits, rtol=0, atol=2e-5 * np.abs(expected.logits).max())


def test_the_trunk_ends_at_the_maps_in_half_precision_without_anything_of_the_tail():
    model = onnx.load_from_string(exported_tiny(tiny_network(), trunk=torch.float16))
    before = model.SerializeToString(deterministic=True)
    trunk, tail = cut_before_tail(model)
    assert [output.name for output in trunk.graph.output] == ["u", "h"]
    assert {output.type.tensor_type.elem_type for output in trunk.graph.output} == {onnx.TensorProto.FLOAT16}
    assert not [node.name for node in trunk.graph.node if node.name.startswith("tail")]
    assert not [tensor.name for tensor in trunk.graph.initializer if tensor.name.startswith("tail")]
    assert tail.weight.shape == (4, 8, 10) and tail.bias.shape == (4,)
    assert model.SerializeToString(deterministic=True) == before


def test_a_graph_that_was_not_exported_by_iern_is_refused():
    with pytest.raises(EngineError, match=r"tail is not known: it has nothing, expected .*--head native"):
        cut_before_tail(onnx.load_from_string(tiny_model()))
