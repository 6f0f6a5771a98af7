"""The evaluation command: the same figures for a checkpoint and for its exported file, counted by someone else too."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

from face_folder import EXPRESSIONS, STRATA, write_faces, write_image, write_manifest
from iern.export.convert import convert
from iern.runtime.preprocess import resize_face
from iern.train.checkpoint import Checkpoint, save_checkpoint
from iern.train.evaluate import main
from repository import ROOT
from tiny_network import sequential_logits, tiny_config, tiny_network

TRAINING, TESTING = 6, 41
KEYS = {"n", "accuracy", "mean_recall", "recall", "ece", "strata", "confusion", "expressions"}
TEMPERATURE = 1.7


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces"), TRAINING, TESTING)


@pytest.fixture(scope="module")
def network(faces):
    """A random network, its classifier shifted and stretched until the faces differ in its eyes."""
    model = tiny_network(dataclasses.replace(tiny_config(), expressions=EXPRESSIONS, strata=STRATA))
    linear = model.classifier.linear
    with torch.no_grad():
        logits = sequential_logits(model, pictures(faces, model)).mean(1)
        spread = logits.std(0)
        linear.bias.copy_((linear.bias - logits.mean(0)) / spread)
        linear.weight.copy_(linear.weight / spread[:, None])
    return model


def pictures(faces, model):
    """(n, S, S, 3) uint8: the test split as the network takes it."""
    numbers = range(TRAINING, TRAINING + TESTING)
    return np.stack([resize_face(cv2.imread(str(faces / f"{i}.png")), model.config.input) for i in numbers])


@pytest.fixture(scope="module")
def models(tmp_path_factory, network):
    """Suffix -> the network as a checkpoint, and as an exported file."""
    folder = tmp_path_factory.mktemp("model")
    checkpoint = folder / "ckpt.pt"
    save_checkpoint(Checkpoint(network.config, network.state_dict(), temperature=TEMPERATURE), checkpoint)
    convert(checkpoint, folder / "ckpt.onnx", ROOT / "tests" / "data" / "photos" / "biden_portrait.jpg")
    return {".pt": checkpoint, ".onnx": folder / "ckpt.onnx"}


@pytest.fixture(scope="module")
def truth(faces, network):
    """Labels, strata and float64 probabilities of the test split, by the equations alone."""
    numbers = range(TRAINING, TRAINING + TESTING)
    logits = sequential_logits(network, pictures(faces, network)).mean(1).numpy() / TEMPERATURE
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    labels = np.array([i % 3 for i in numbers])
    strata = np.array([STRATA[i // 3 % 2] for i in numbers])
    return labels, strata, exponentials / exponentials.sum(1, keepdims=True)


def figures(model, faces, folder, *more):
    out = folder / "figures.json"
    assert main([str(model), "--data", str(faces), "--json", str(out), *more]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def refused(capsys, *arguments) -> str:
    """The one line that a failed command says."""
    assert main([str(argument) for argument in arguments]) == 1
    errors = capsys.readouterr().err.strip()
    assert errors.startswith("error: ") and "\n" not in errors
    return errors


@pytest.mark.parametrize("form", [".pt", ".onnx"])
def test_the_figures_are_those_that_scikit_learn_finds_in_float64_answers(form, models, faces, truth, tmp_path):
    labels, strata, probabilities = truth
    answers = probabilities.argmax(1)
    assert len(set(answers)) > 1, "a network that gives one answer would show nothing"
    found = figures(models[form], faces, tmp_path)
    assert set(found) == KEYS
    assert found["expressions"] == list(EXPRESSIONS)
    assert found["n"] == TESTING
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, answers))
    assert found["mean_recall"] == pytest.approx(balanced_accuracy_score(labels, answers))
    assert [found["recall"][name] for name in EXPRESSIONS] == pytest.approx(recall_score(labels, answers, average=None))
    assert found["confusion"] == confusion_matrix(labels, answers).tolist()
    assert set(found["strata"]) == set(STRATA)
    for name, values in found["strata"].items():
        here = strata == name
        assert values["n"] == here.sum()
        assert values["accuracy"] == pytest.approx(accuracy_score(labels[here], answers[here]))
        assert values["mean_recall"] == pytest.approx(balanced_accuracy_score(labels[here], answers[here]))
    confidence, right = probabilities.max(1), answers == labels
    bins = np.minimum((confidence * 15).astype(int), 14)
    error = sum(abs(confidence[bins == b].sum() - right[bins == b].sum()) for b in range(15)) / TESTING
    assert found["ece"] == pytest.approx(error, abs=1e-4)


def test_other_splits_are_other_faces(models, faces, tmp_path):
    assert figures(models[".onnx"], faces, tmp_path, "--split", "train")["n"] == TRAINING
    assert figures(models[".onnx"], faces, tmp_path, "--split", "all")["n"] == TRAINING + TESTING


def test_an_expression_without_a_face_has_no_recall_and_lowers_no_mean(models, tmp_path):
    rows = [{"path": f"{i}.png", "expression": "sad", "confounder": "web", "split": "test"} for i in range(3)]
    for i in range(3):
        write_image(tmp_path / f"{i}.png", i)
    found = figures(models[".onnx"], write_manifest(tmp_path, rows), tmp_path)
    assert found["recall"]["happy"] is None and found["recall"]["neutral"] is None
    assert found["mean_recall"] == found["recall"]["sad"] == found["accuracy"]


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_figure_is_drawn_in_the_named_format(suffix, models, faces, tmp_path):
    picture = tmp_path / f"confusion.{suffix}"
    figures(models[".onnx"], faces, tmp_path, "--figure", str(picture))
    assert picture.read_bytes().startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix])
    if suffix == "png":
        assert min(cv2.imread(str(picture)).shape[:2]) > 300
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["figures.json", picture.name])


def test_a_figure_of_no_known_kind_is_refused_before_anything_is_measured(models, faces, tmp_path, capsys):
    out = tmp_path / "figures.json"
    said = refused(capsys, models[".onnx"], "--data", faces, "--json", out, "--figure", tmp_path / "confusion.docx")
    assert "confusion.docx" in said and ".png" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["absent.pt", "absent.onnx"])
def test_a_model_that_is_not_there_is_named(name, faces, tmp_path, capsys):
    assert name in refused(capsys, tmp_path / name, "--data", faces)


@pytest.mark.parametrize("name", ["text.pt", "text.onnx", "empty.pt", "empty.onnx"])
def test_a_file_that_is_no_model_is_named(name, faces, tmp_path, capsys):
    (tmp_path / name).write_bytes(b"no model" if name.startswith("text") else b"")
    assert name in refused(capsys, tmp_path / name, "--data", faces)


def test_data_that_are_not_there_are_named(models, tmp_path, capsys):
    assert "nowhere" in refused(capsys, models[".onnx"], "--data", tmp_path / "nowhere")


def test_a_split_without_a_face_is_refused_with_those_there_are(models, faces, capsys):
    said = refused(capsys, models[".onnx"], "--data", faces, "--split", "validation")
    assert "validation" in said and "train" in said and "test" in said


@pytest.mark.parametrize("form", [".pt", ".onnx"])
def test_a_corrupt_picture_is_named_and_no_figures_are_written(form, models, tmp_path, capsys):
    root = write_faces(tmp_path / "faces", 2, 5)
    (root / "3.png").write_bytes(b"no picture")
    assert "3.png" in refused(capsys, models[form], "--data", root, "--json", tmp_path / "figures.json")
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_labels_that_the_model_does_not_know_are_refused(models, tmp_path, capsys):
    write_image(tmp_path / "a.png", 0)
    rows = [{"path": "a.png", "expression": "bored", "confounder": "web", "split": "test"}]
    assert "bored" in refused(capsys, models[".pt"], "--data", write_manifest(tmp_path, rows))


def test_the_command_runs_from_any_folder(models, faces, tmp_path):
    command = [sys.executable, ROOT / "train" / "evaluate.py", models[".onnx"], "--data", faces, "--json", "out.json"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False, env={**os.environ, "COLUMNS": "90"}
    )
    assert done.returncode == 0, done.stderr
    assert f"n {TESTING}" in done.stdout and "wrote out.json" in done.stdout
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["n"] == TESTING
