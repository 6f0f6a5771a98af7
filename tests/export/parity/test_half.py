"""The half-precision gate lets a sound file pass, and stops what float16 or a wrong graph would spoil."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from doubles.tiny_export import exported_tiny, made_up
from doubles.tiny_network import random_faces, tiny_config, tiny_network
from iern.export.graph.deconfound import Deconfounded, deconfound
from iern.export.parity.answers import answers_of_onnxruntime
from iern.export.parity.exact import answers_of_torch
from iern.export.parity.half import compare_half
from iern.export.parity.half_twin import check_half_parity, watched
from iern.train.network.iern import Baseline

FACES = random_faces(24)
PEAKS = {"backbone.first": 10.0}


def exported(model: Baseline) -> bytes:
    return exported_tiny(model, trunk=torch.float16)


def largest_values(network: Deconfounded) -> dict[str, float]:
    with watched(network) as peaks, torch.no_grad():
        network(torch.from_numpy(FACES))
    return peaks


@pytest.fixture(scope="module")
def model() -> Baseline:
    return tiny_network()


@pytest.fixture(scope="module")
def sound(model) -> bytes:
    return exported(model)


def test_a_sound_file_passes_and_is_not_float32s(model, sound):
    parity = check_half_parity(model, sound, FACES)
    assert not parity.failures
    assert parity.faces == len(FACES)
    assert 1e-6 < parity.logits < 1e-2, "no rounding at all would mean that nothing ran in half precision"
    json.loads(json.dumps(parity.to_dict(), allow_nan=False))
    assert parity.to_dict()["largest_value"] == pytest.approx(max(parity.peaks.values()), rel=5e-3)


def test_the_twin_answers_as_the_sequential_network_in_float64_does(model, sound):
    parity = check_half_parity(model, sound, FACES)
    sequential = answers_of_torch(model, FACES, 1.0, torch.float64)
    expected = compare_half(sequential, answers_of_onnxruntime(sound, FACES))
    for name in ("agreement", "logits", "widest_flip", "spread"):
        assert getattr(parity, name) == pytest.approx(getattr(expected, name), rel=1e-9)


def test_progress_is_told_batch_by_batch(model, sound):
    seen = []
    check_half_parity(model, sound, FACES[:20], track=lambda batches: (seen.append(len(b)) or b for b in batches))
    assert seen == [16, 4]


def test_a_network_without_strata_passes():
    model = tiny_network(tiny_config(method="baseline"))
    parity = check_half_parity(model, exported(model), FACES[:4])
    assert parity.spread == 1
    assert not parity.failures


def test_a_network_whose_strata_share_a_centre_passes():
    model = tiny_network()
    model.confounders.data.copy_(model.confounders.data[:1].expand_as(model.confounders))
    parity = check_half_parity(model, exported(model), FACES)
    assert parity.spread == 1
    assert not parity.failures


def test_a_wrong_weight_is_stopped(model, sound):
    wrong = onnx.load_from_string(sound)
    (weight,) = (tensor for tensor in wrong.graph.initializer if tensor.name == "tail.of_mean.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(1.2 * onnx.numpy_helper.to_array(weight), weight.name))
    assert any("logits differ" in line for line in check_half_parity(model, wrong.SerializeToString(), FACES).failures)


def test_strata_drawn_together_are_stopped_though_the_logits_hardly_move():
    random = np.random.default_rng(0)
    twin = random.normal(0, 5, (300, 1, 4)) + random.normal(0, 0.01, (300, 3, 4))
    narrow = twin.mean(axis=1, keepdims=True) + 0.97 * (twin - twin.mean(axis=1, keepdims=True))
    (failure,) = compare_half(made_up(twin), made_up(narrow), PEAKS).failures
    assert "the strata spread 0.970 times" in failure


def test_a_flip_counts_by_the_lead_that_was_lost():
    twin = np.tile(np.array([[[3.0, 0.0, -7.0]]]), (400, 1, 1))
    twin[0, 0] = (1.0, 0.96, -1)
    close = twin.copy()
    close[0, 0] = (0.96, 1.0, -1)
    parity = compare_half(made_up(twin), made_up(close), PEAKS)
    assert parity.agreement == 399 / 400
    assert parity.widest_flip == pytest.approx(0.004)
    assert not parity.failures
    wide = twin.copy()
    wide[0, 0, 1] = 1.2
    far = twin.copy()
    far[0, 0] = (1.0, 0.7, -1)
    assert any("lost" in line for line in compare_half(made_up(far), made_up(wide), PEAKS).failures)


def test_too_many_flips_are_stopped_however_close():
    twin = np.tile(np.array([[[3.0, 0.0, -7.0]]]), (100, 1, 1))
    twin[:2, 0] = (1.0, 0.99, -1)
    other = twin.copy()
    other[:2, 0] = (0.99, 1.0, -1)
    (failure,) = compare_half(made_up(twin), made_up(other), PEAKS).failures
    assert "98.00% of the faces" in failure


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_stopped(value):
    twin = np.random.default_rng(0).normal(size=(5, 3, 4))
    broken = twin.copy()
    broken[2, 1, 0] = value
    with np.errstate(invalid="ignore"):
        assert compare_half(made_up(twin), made_up(broken), PEAKS).failures


def test_the_largest_values_are_those_that_the_layers_write():
    model = tiny_network()
    network = deconfound(model)
    peaks = largest_values(network)
    assert all(name.split(".")[0] in ("backbone", "generator", "head") for name in peaks)
    with torch.no_grad():
        pixels = torch.from_numpy(FACES).float().permute(0, 3, 1, 2) - network.mean
        base = network.backbone(pixels)
        u, h = network.head(network.generator(base))
    assert peaks["backbone"] == pytest.approx(float(base.abs().max()), rel=1e-4)
    assert peaks["head"] == pytest.approx(max(float(u.abs().max()), float(h.abs().max())), rel=1e-4)


def test_a_layer_near_the_end_of_float16_is_stopped_before_it_overflows():
    """All the same function of pixels: one layer writes 10,000 times as much, the next reads as much less."""
    model = tiny_network(tiny_config(method="baseline"))
    with torch.no_grad():
        projection = model.backbone.projection
        factor = 40_000 / float(largest_values(deconfound(model))["backbone"])
        projection.weight *= factor
        projection.bias *= factor
        model.classifier.linear.weight /= factor
    (failure,) = check_half_parity(model, exported(model), FACES).failures
    assert "below 65504" in failure
    assert isinstance(model.classifier.linear, nn.Linear)
    with torch.no_grad():
        projection.weight *= 10
        projection.bias *= 10
        model.classifier.linear.weight /= 10
    assert len(check_half_parity(model, exported(model), FACES).failures) > 1
