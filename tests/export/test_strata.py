"""The command with --strata collapsed: a file with one stratum, or one line with the numbers and no file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from doubles.tiny_network import close_centres, random_faces, sequential_logits, tiny_config, tiny_network
from iern.export.parity import gate_faces
from iern.export.parity.gate_faces import edge_cases
from iern.export.to_int8 import quantised
from iern.export.to_trt import main
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.faces.face import faces_from
from iern.runtime.imaging.detection import Detection
from iern.train.network.checkpoint import Checkpoint, save_checkpoint
from iern.train.network.iern import Baseline
from repository import ROOT

PHOTOGRAPH = str(ROOT / "tests" / "data" / "photos" / "biden_portrait.jpg")
OPTIONS = ["--strata", "collapsed", "--faces", PHOTOGRAPH, "--backend", "none"]
TEMPERATURE = 1.3
NEAR = 1e-3
MANY = 60
"""Faces for the gates in place of `gate_faces.MANY`, which takes many seconds."""


@pytest.fixture(scope="module", autouse=True)
def fewer_faces():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate_faces, "MANY", MANY)
        yield


def save(model: Baseline, path: Path) -> Path:
    save_checkpoint(Checkpoint(model.config, model.state_dict(), {}, temperature=TEMPERATURE), path)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The folder of a checkpoint whose centres are near one another, after the command, with what it printed."""
    folder = tmp_path_factory.mktemp("run")
    save(close_centres(tiny_network(), NEAR), folder / "ckpt.pt")
    assert main([str(folder / "ckpt.pt"), *OPTIONS, "--precision", "fp16"]) == 0
    return folder


def refused(capsys, *words: str | Path) -> str:
    """The one line of the failed command on stderr."""
    assert main([str(word) for word in words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_files_are_named_collapsed_so_that_they_replace_no_full_one(written):
    assert {path.name for path in written.iterdir()} == {"ckpt.pt", "ckpt.collapsed.onnx", "ckpt.collapsed.fp16.onnx"}


def test_they_have_one_stratum_and_record_from_how_many_and_what_the_gate_found(written):
    for name in ("ckpt.collapsed.onnx", "ckpt.collapsed.fp16.onnx"):
        with OnnxSession(written / name, provider="cpu") as session:
            artifact = session.artifact
        assert (artifact.strata, artifact.collapsed_from) == (("mean",), 3)
        found = artifact.parity["collapse"]
        assert found["faces"] == MANY + len(edge_cases(64))
        assert found["agreement"] == 1 and found["probabilities"] <= 0.01


def test_it_answers_as_the_sequential_network_and_its_faces_have_no_disagreement(written):
    faces = random_faces(20)
    expected = sequential_logits(close_centres(tiny_network(), NEAR), faces).mean(dim=1)
    with OnnxSession(written / "ckpt.collapsed.onnx", provider="cpu") as session:
        predictions = session(faces)
    assert predictions.stratum_logits.shape == (20, 1, 4)
    probabilities = (expected / TEMPERATURE).softmax(dim=1)
    np.testing.assert_allclose(predictions.probabilities, probabilities.numpy(), rtol=0, atol=1e-4)
    detections = [Detection(0, 0, 9, 9, np.zeros((5, 2)), 1.0)] * 20
    assert {face.disagreement for face in faces_from(detections, predictions, session.artifact)} == {None}


def test_an_8_bit_trunk_fits_it_too(written):
    faces = random_faces(32)
    content = quantised(written / "ckpt.collapsed.onnx", faces)
    with OnnxSession(content, provider="cpu") as small, OnnxSession(written / "ckpt.collapsed.onnx") as given:
        assert (small.artifact.collapsed_from, small.artifact.has_strata) == (3, False)
        first, second = given(faces), small(faces)
    assert np.corrcoef(first.logits.ravel(), second.logits.ravel())[0, 1] > 0.99
    assert any(t.data_type == onnx.TensorProto.INT8 for t in onnx.load_from_string(content).graph.initializer)


def test_centres_that_differ_much_are_refused_with_the_numbers_and_an_older_file_stays(tmp_path, capsys):
    source = save(tiny_network(), tmp_path / "ckpt.pt")
    (tmp_path / "ckpt.collapsed.onnx").write_bytes(b"older")
    line = refused(capsys, source, *OPTIONS)
    assert re.search(r"probabilities differ by \d\.\de-\d\d, limit 0\.01", line)
    assert f"{tmp_path / 'ckpt.collapsed.onnx'} was not written; leave out --strata collapsed" in line
    assert (tmp_path / "ckpt.collapsed.onnx").read_bytes() == b"older"


@pytest.mark.parametrize("changes", [{"method": "baseline"}, {"strata": 1}], ids=str)
def test_a_network_of_one_stratum_has_nothing_to_collapse(tmp_path, capsys, changes):
    source = save(tiny_network(tiny_config(**changes)), tmp_path / "ckpt.pt")
    assert "nothing to collapse; leave out --strata collapsed" in refused(capsys, source, *OPTIONS)


def test_an_exported_file_cannot_be_collapsed(written, capsys):
    line = refused(capsys, written / "ckpt.collapsed.onnx", "--strata", "collapsed", "--backend", "none")
    assert "is already exported; export its checkpoint with --strata collapsed" in line


def test_the_check_of_an_exported_file_names_the_strata_that_were_collapsed(written, capsys):
    assert main([str(written / "ckpt.collapsed.onnx"), "--faces", PHOTOGRAPH, "--backend", "none"]) == 0
    assert "1 stratum, collapsed from 3" in capsys.readouterr().out
