"""The 8-bit file: its trunk is in integers, its intervention is not, and it is written only if it is good and fast."""

from __future__ import annotations

import hashlib
import re

import cv2
import numpy as np
import onnx
import pytest
import torch

from doubles.face_folder import write_image, write_manifest
from doubles.tiny_export import exported_tiny
from doubles.tiny_network import EXPRESSIONS, sequential_logits, tiny_config, tiny_network
from iern.export import to_int8
from iern.export.parity.model_outputs import outputs_of_file
from iern.export.to_int8 import main
from iern.runtime.backends.onnx import open_session
from iern.runtime.errors import ArtifactError
from iern.runtime.imaging.images import read_image
from iern.runtime.imaging.preprocess import resize_face
from iern.runtime.system.processor import processor

COUNT = 96


def painted(number):
    """(64, 64, 3): an image in two colours of its own."""
    image = np.empty((64, 64, 3), np.uint8)
    image[:32], image[32:] = np.random.default_rng(number).integers(0, 256, (2, 3), np.uint8)
    return image


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An exported network of three strata. Its classifier is shifted and scaled so that its logits differ by face."""
    network = tiny_network(tiny_config())
    linear = network.classifier.linear
    with torch.no_grad():
        logits = sequential_logits(network, np.stack([painted(i) for i in range(COUNT)])).mean(1)
        linear.bias.copy_((linear.bias - logits.mean(0)) / logits.std(0))
        linear.weight.copy_(linear.weight / logits.std(0)[:, None])
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    path.write_bytes(exported_tiny(network))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory, model):
    """Images with confident predictions, which are their labels: half to calibrate on, half to compare on."""
    root = tmp_path_factory.mktemp("faces")
    logits = outputs_of_file(model, np.stack([painted(i) for i in range(4 * COUNT)])).logits
    lead = np.sort(logits, axis=1)[:, -1] - np.sort(logits, axis=1)[:, -2]
    rows = []
    for i, number in enumerate(np.argsort(-lead)[:COUNT].tolist()):
        cv2.imwrite(str(root / f"{i}.png"), painted(number))
        split = "train" if i % 2 else "valid"
        expression = EXPRESSIONS[logits[number].argmax()]
        rows.append({"path": f"{i}.png", "expression": expression, "confounder": "web", "split": split})
    return write_manifest(root, rows)


@pytest.fixture(autouse=True)
def faster(monkeypatch):
    """Replaces the measured speed only: a network this small is not faster in 8 bits on every machine."""
    monkeypatch.setattr(to_int8, "speed_up", lambda *_: 1.5)


def refused(capsys, *arguments) -> str:
    """The one line of the failed command on stderr."""
    assert main([str(argument) for argument in arguments]) == 1
    return capsys.readouterr().err.strip()


def test_the_trunk_is_in_integers_and_the_intervention_in_float(model, data, tmp_path, capsys):
    target = tmp_path / "small.onnx"
    assert main([str(model), "--data", str(data), "-o", str(target), "--calibration", "40"]) == 0
    assert "1.50 times as fast" in capsys.readouterr().out
    graph = onnx.load(target).graph
    integers = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.INT8}
    widened = {out for node in graph.node if node.op_type == "DequantizeLinear" for out in node.output}
    for node in graph.node:
        if node.op_type == "Conv":
            assert (node.input[1] in widened) == node.name.startswith(("backbone", "generator")), node.name
    assert len(integers) > 5


def test_its_outputs_are_close_to_those_of_the_given_file(model, data, tmp_path):
    target = tmp_path / "small.onnx"
    assert main([str(model), "--data", str(data), "-o", str(target)]) == 0
    with open_session(target, provider="cpu") as small, open_session(model, provider="cpu") as given:
        assert small.artifact.expressions == given.artifact.expressions
        assert small.artifact.strata == given.artifact.strata
        parity = small.artifact.parity
        images = np.stack(
            [resize_face(read_image(data / f"{i}.png"), given.artifact.input) for i in range(0, COUNT, 2)]
        )
    first, second = outputs_of_file(model, images), outputs_of_file(target, images)
    agreement = np.mean(first.logits.argmax(1) == second.logits.argmax(1))
    assert parity["faces"] == COUNT // 2 and parity["accuracy"] == 1.0
    assert parity["agreement"] == pytest.approx(agreement, abs=1e-3)
    assert parity["change"] == pytest.approx(agreement - 1, abs=1e-3), "its predictions are the labels"
    strata = [each.stratum_logits - each.stratum_logits.mean(1, keepdims=True) for each in (first, second)]
    assert np.corrcoef(strata[0].ravel(), strata[1].ravel())[0, 1] > 0.99


def test_a_less_accurate_file_is_not_written(model, data, tmp_path, capsys):
    """Calibrated on black images, it cannot represent the values of others."""
    for path in data.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for i in range(1, COUNT, 2):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((32, 32, 3), np.uint8))
    error = refused(capsys, model, "--data", tmp_path, "-o", tmp_path / "small.onnx")
    assert re.search(r"accuracy falls by \d+\.\d+%, limit 0\.5%", error) and f"use {model} as it is" in error
    assert not (tmp_path / "small.onnx").exists()


def test_a_slower_file_is_not_written(model, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(to_int8, "speed_up", lambda *_: 0.8)
    error = refused(capsys, model, "--data", data, "-o", tmp_path / "small.onnx")
    assert "one face takes 1.25 times as long on this machine" in error
    assert not (tmp_path / "small.onnx").exists()


def test_data_without_validation_faces_are_refused(model, tmp_path, capsys):
    rows = [{"path": "0.png", "expression": "anger", "confounder": "web", "split": "train"}]
    write_image(tmp_path / "0.png", 0)
    assert "the split 'valid' has no images" in refused(capsys, model, "--data", write_manifest(tmp_path, rows))


def test_a_trunk_that_is_not_in_float32_is_refused(model, data, tmp_path, capsys):
    half, small = tmp_path / "half.onnx", tmp_path / "small.onnx"
    half.write_bytes(exported_tiny(tiny_network(tiny_config()), trunk=torch.float16))
    assert main([str(model), "--data", str(data), "-o", str(small)]) == 0
    for path in (half, small):
        assert "not in float32" in refused(capsys, path, "--data", data, "-o", tmp_path / "again.onnx")


def test_a_file_that_does_not_exist_is_named(data, tmp_path, capsys):
    assert "no.onnx" in refused(capsys, tmp_path / "no.onnx", "--data", data)


@pytest.mark.parametrize("mirrored", [False, True])
def test_its_outputs_are_close_with_one_look_and_with_two(tmp_path, mirrored):
    """With two looks, the trunk computes the face and its mirror image in one batch."""
    path, target = tmp_path / "looks.onnx", tmp_path / "looks.int8.onnx"
    path.write_bytes(exported_tiny(tiny_network(tiny_config(mirrored=mirrored))))
    images = np.stack([painted(i).transpose(1, 0, 2) for i in range(COUNT)])  # left and right differ
    target.write_bytes(to_int8.quantised(path, images))
    for faces in (images, np.ascontiguousarray(images[:, :, ::-1])):
        first, second = outputs_of_file(path, faces), outputs_of_file(target, faces)
        assert np.corrcoef(first.logits.ravel(), second.logits.ravel())[0, 1] > 0.99


def test_the_file_knows_which_file_it_was_made_from(model, data, tmp_path):
    copy, target = tmp_path / "office.onnx", tmp_path / "office.int8.onnx"
    copy.write_bytes(model.read_bytes())
    assert main([str(copy), "--data", str(data)]) == 0
    with open_session(target, provider="cpu") as small:
        assert small.artifact.float_sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    if processor().saturates:
        pytest.skip("this CPU refuses 8 bits")
    with open_session(copy, provider="cpu", precision="int8") as small:
        assert small.artifact.float_sha256
    copy.write_bytes(exported_tiny(tiny_network(tiny_config())))
    with pytest.raises(ArtifactError, match="was not made from"):
        open_session(copy, provider="cpu", precision="int8")
