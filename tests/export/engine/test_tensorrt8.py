"""Graphs for TensorRT 8.6: onnxruntime finds the same answers in them, and ONNX's own checker finds opset 17."""

from __future__ import annotations

import types

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from iern.export.engine.tensorrt8 import check_version, lowered, value_types
from iern.export.graph.cut import cut_before_tail
from iern.runtime.bundled import MODEL
from iern.runtime.errors import EngineError

HALF = MODEL.with_suffix(".fp16.onnx")
ONLY_WITH_18 = helper.make_node("Split", ["x"], ["y", "z"], num_outputs=2)


def outputs(graph: bytes, faces: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": faces})


@pytest.mark.parametrize("path", [MODEL, HALF], ids=["single", "half"])
def test_the_bundled_model_gives_the_same_answers_in_opset_17(path):
    """onnxruntime adds in another order there, in float32. A step of half precision would be far more."""
    side = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[1].dim_value
    faces = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    model = lowered(path.read_bytes())
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
    assert model.ir_version <= 8
    for found, expected in zip(
        outputs(model.SerializeToString(), faces), outputs(path.read_bytes(), faces), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_every_value_of_the_graph_has_the_type_that_onnxruntime_gives_it():
    model = lowered(HALF.read_bytes())
    types_of = value_types(model)
    side = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    floats = [name for node in model.graph.node for name in node.output if name in types_of]
    known = {value.name for value in model.graph.output}
    for name in floats:
        if name not in known:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    found = dict(zip(names, session.run(None, {"image": np.zeros((1, side, side, 3), np.uint8)}), strict=True))
    kinds = {np.dtype(np.float16): "HALF", np.dtype(np.float32): "FLOAT"}
    assert {name: types_of[name] for name in floats} == {name: kinds[found[name].dtype] for name in floats}
    assert set(types_of.values()) == {"HALF", "FLOAT"}
    assert len(floats) > 60


def test_a_graph_that_is_cut_before_its_tail_is_lowered_too():
    graph, _ = cut_before_tail(onnx.load(HALF))
    model = lowered(graph.SerializeToString())
    assert model.opset_import[0].version == 17
    assert value_types(model)["u"] == "HALF"


def graph_of(node: onnx.NodeProto) -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (2,)) for name in (*node.input, *node.output)]
    made = helper.make_graph([node], "small", values[:1], values[1:])
    return helper.make_model(made, opset_imports=[helper.make_operatorsetid("", 18)]).SerializeToString()


@pytest.mark.parametrize("node", [ONLY_WITH_18, helper.make_node("ReduceMean", ["x"], ["y"])])
def test_an_operation_without_a_form_in_opset_17_is_refused(node):
    with pytest.raises(EngineError, match=rf"this graph's {node.op_type} has no form there; update to JetPack 6\.1"):
        lowered(graph_of(node))


@pytest.mark.parametrize("preview", [{}, {"PreviewFeature": types.SimpleNamespace()}])
def test_an_older_tensorrt_is_refused_with_what_to_install(preview):
    with pytest.raises(EngineError, match=r"TensorRT 8\.5\.2 is too old: expected 8\.6 or newer; update JetPack"):
        check_version(types.SimpleNamespace(__version__="8.5.2", **preview))
