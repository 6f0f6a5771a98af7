"""The exported file: one file, self-describing, small, the same each time, and right for every batch."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from doubles.tiny_network import random_faces, sequential_logits, spread_of, tiny_config, tiny_network
from iern.export.graph.deconfound import deconfound
from iern.export.graph.onnx_graph import export_onnx
from iern.export.parity.exact import check_exact_parity
from iern.runtime.artifact import Artifact
from iern.train.network.config import from_preset
from repository import ROOT

CONFIGS = {
    "iern": tiny_config(),
    "one stratum": tiny_config(strata=1),
    "paper": tiny_config(block="paper", answer="probabilities"),
    "disentanglement": tiny_config(method="disentanglement"),
    "baseline": tiny_config(method="baseline"),
    "mirrored": tiny_config(mirrored=True),
}
TEMPERATURE = 1.7


def describe(config) -> Artifact:
    return Artifact(
        expressions=config.expressions,
        strata=config.strata if config.method == "iern" else ("all",),
        input=config.input,
        method=config.method,
        answer=config.answer,
        temperature=TEMPERATURE,
        data="drawn weights, ελληνικά",
        metrics={"accuracy": 0.5, "recall": {"anger": None}},
    )


@pytest.fixture(scope="module")
def exported() -> dict[str, bytes]:
    """The content of a file for each configuration, exported at its first use."""

    class Files(dict):
        def __missing__(self, name: str) -> bytes:
            config = CONFIGS[name]
            network = deconfound(tiny_network(config), temperature=TEMPERATURE)
            self[name] = export_onnx(network, describe(config))
            return self[name]

    return Files()


def run(content: bytes, faces: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": faces}), strict=True))


def expected_probabilities(config, stratum_logits: torch.Tensor) -> torch.Tensor:
    if config.answer == "probabilities":
        return (stratum_logits / TEMPERATURE).softmax(dim=-1).mean(dim=1)
    return (stratum_logits.mean(dim=1) / TEMPERATURE).softmax(dim=-1)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_file_gives_the_outputs_of_the_sequential_network_for_any_batch(exported, name):
    config = CONFIGS[name]
    for batch in (1, 2, 7):
        faces = random_faces(batch, seed=batch)
        expected = sequential_logits(tiny_network(config), faces)
        found = run(exported[name], faces)
        tolerance = 1e-5 * spread_of(expected)
        np.testing.assert_allclose(found["stratum_logits"], expected.numpy(), rtol=0, atol=tolerance)
        np.testing.assert_allclose(found["logits"], expected.mean(dim=1).numpy(), rtol=0, atol=tolerance)
        np.testing.assert_allclose(
            found["probabilities"], expected_probabilities(config, expected).numpy(), rtol=0, atol=1e-5
        )


def test_a_batch_without_faces_gives_empty_outputs(exported):
    found = run(exported["iern"], random_faces(0))
    assert {name: values.shape for name, values in found.items()} == {
        "probabilities": (0, 4),
        "logits": (0, 4),
        "stratum_logits": (0, 3, 4),
    }


def test_inputs_and_outputs_are_those_of_the_contract_and_only_the_batch_is_free(exported):
    graph = onnx.load_from_string(exported["iern"]).graph
    signature = {
        value.name: (
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in [*graph.input, *graph.output]
    }
    assert signature == {
        "image": (onnx.TensorProto.UINT8, ["batch", 64, 64, 3]),
        "probabilities": (onnx.TensorProto.FLOAT, ["batch", 4]),
        "logits": (onnx.TensorProto.FLOAT, ["batch", 4]),
        "stratum_logits": (onnx.TensorProto.FLOAT, ["batch", 3, 4]),
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_the_description_is_read_as_it_was_written(exported, name):
    entries = onnx.load_from_string(exported[name]).metadata_props
    assert Artifact.from_metadata({e.key: e.value for e in entries}, name) == describe(CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_graph_is_valid_with_every_shape_inferred_and_no_batch_norm_left(exported, name):
    model = onnx.load_from_string(exported[name])
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert not model.functions
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_file_holds_each_weight_once_and_little_else(exported, name):
    model = onnx.load_from_string(exported[name])
    weights = [tensor for tensor in model.graph.initializer if np.prod(tensor.dims) > 32]
    contents = Counter(onnx.numpy_helper.to_array(tensor).tobytes() for tensor in weights)
    assert max(contents.values()) == 1
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert len(exported[name]) < sum(map(len, contents)) + 30_000


def test_the_same_weights_give_the_same_bytes(exported):
    again = export_onnx(deconfound(tiny_network(), temperature=TEMPERATURE), describe(CONFIGS["iern"]))
    assert again == exported["iern"]


def test_the_file_holds_nothing_about_the_machine_that_made_it(exported):
    for private in (str(ROOT), str(Path.home()), str(Path(torch.__file__).parents[1]), sys.prefix, ".py", "aten"):
        assert private.encode() not in exported["iern"], private


def test_every_node_is_named_after_its_part(exported):
    names = [node.name for node in onnx.load_from_string(exported["iern"]).graph.node]
    assert len(set(names)) == len(names)
    in_order = [part for part, _ in itertools.groupby(name.split("/")[0].split(".")[0] for name in names)]
    # Outside the parts: pixels to numbers before them, strata to probabilities after them.
    assert in_order == ["", "backbone", "generator", "head", "tail", ""]


@pytest.mark.parametrize(
    ("name", "maps"), [("iern", {"u", "h"}), ("disentanglement", {"u", "h"}), ("paper", {"u"}), ("baseline", {"u"})]
)
def test_the_tail_reads_only_the_named_maps_so_the_graph_can_be_cut_there(exported, name, maps):
    model = onnx.load_from_string(exported[name])
    constants = {tensor.name for tensor in model.graph.initializer}
    tail = [node for node in model.graph.node if node.name.startswith("tail")]
    inside = {output for node in tail for output in node.output}
    assert {name for node in tail for name in node.input} - constants - inside == maps
    trunk = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(["image"], sorted(maps))
    session = onnxruntime.InferenceSession(trunk.SerializeToString(), providers=["CPUExecutionProvider"])
    shapes = [values.shape for values in session.run(None, {"image": random_faces(2)})]
    strata = 3 if CONFIGS[name].method == "iern" else 1
    assert shapes == [(2 * strata, 8, 4, 4)] * len(maps)


def test_the_file_copied_alone_to_another_folder_works(exported, tmp_path):
    original = tmp_path / "here" / "iern.onnx"
    original.parent.mkdir()
    original.write_bytes(exported["iern"])
    alone = tmp_path / "elsewhere" / "copy.onnx"
    alone.parent.mkdir()
    shutil.move(original, alone)
    assert [path.name for path in original.parent.iterdir()] == []
    program = textwrap.dedent(
        """
        import numpy, sys
        from iern.runtime.backends.onnx import OnnxSession
        with OnnxSession(sys.argv[1]) as session:
            print(session(numpy.zeros((2, 64, 64, 3), numpy.uint8)).probabilities.shape, session.artifact.data)
        """
    )
    result = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program, alone.name],
        cwd=alone.parent,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert result.stdout.strip() == "(2, 4) drawn weights, ελληνικά", result.stderr


@pytest.mark.slow
def test_the_paper_preset_is_exported_and_checked():
    config = from_preset("paper", expressions=CONFIGS["iern"].expressions, strata=CONFIGS["iern"].strata)
    model = tiny_network(config)
    content = export_onnx(deconfound(model, temperature=TEMPERATURE), describe(config))
    parity = check_exact_parity(model, content, random_faces(2, 224), TEMPERATURE)
    assert parity.passed, parity.failures
    parameters = sum(tensor.numel() for tensor in deconfound(model).state_dict().values())
    assert len(content) < 4 * parameters + 200_000


def test_a_half_trunk_is_cut_from_its_float32_tail_at_two_half_maps():
    model = tiny_network()
    content = export_onnx(deconfound(model, trunk=torch.float16), describe(model.config))
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    assert types["u"] == types["h"] == onnx.TensorProto.FLOAT16
    assert {output.type.tensor_type.elem_type for output in graph.output} == {onnx.TensorProto.FLOAT}
    casts = [node for node in graph.node if node.op_type == "Cast"]
    # pixels to float32, normalised pixels to half, and the two maps to float32
    assert len(casts) == 4 and sum(node.name.startswith("tail") for node in casts) == 2
    assert len(content) < 0.7 * len(export_onnx(deconfound(model), describe(model.config)))
