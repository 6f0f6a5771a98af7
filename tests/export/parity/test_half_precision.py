"""The half-precision gate accepts a sound file, and refuses one that float16 or a wrong graph has damaged."""

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
from iern.export.parity.exact import outputs_of_network
from iern.export.parity.half_precision import compare_half
from iern.export.parity.half_precision_gate import check_half_parity, largest_outputs
from iern.export.parity.model_outputs import outputs_of_file
from iern.train.network.iern import Baseline

FACES = random_faces(24)
PEAKS = {"backbone.first": 10.0}


def exported(model: Baseline) -> bytes:
    return exported_tiny(model, trunk=torch.float16)


def peaks_of(network: Deconfounded) -> dict[str, float]:
    with largest_outputs(network) as peaks, torch.no_grad():
        network(torch.from_numpy(FACES))
    return peaks


@pytest.fixture(scope="module")
def model() -> Baseline:
    return tiny_network()


@pytest.fixture(scope="module")
def sound(model) -> bytes:
    return exported(model)


def test_a_sound_file_passes_and_really_runs_in_half_precision(model, sound):
    parity = check_half_parity(model, sound, FACES)
    assert not parity.failures
    assert parity.faces == len(FACES)
    assert 1e-6 < parity.logits < 1e-2, "without rounding, nothing ran in half precision"
    json.loads(json.dumps(parity.to_dict(), allow_nan=False))
    assert parity.to_dict()["largest_value"] == pytest.approx(max(parity.peaks.values()), rel=5e-3)


def test_the_reference_equals_the_sequential_network_in_float64(model, sound):
    parity = check_half_parity(model, sound, FACES)
    sequential = outputs_of_network(model, FACES, 1.0, torch.float64)
    expected = compare_half(sequential, outputs_of_file(sound, FACES))
    for name in ("agreement", "logits", "widest_flip", "spread"):
        assert getattr(parity, name) == pytest.approx(getattr(expected, name), rel=1e-9)


def test_progress_is_shown_batch_by_batch(model, sound):
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


def test_a_wrong_weight_is_refused(model, sound):
    wrong = onnx.load_from_string(sound)
    (weight,) = (tensor for tensor in wrong.graph.initializer if tensor.name == "tail.of_mean.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(1.2 * onnx.numpy_helper.to_array(weight), weight.name))
    assert any("logits differ" in line for line in check_half_parity(model, wrong.SerializeToString(), FACES).failures)


def test_a_smaller_spread_between_strata_is_refused_though_the_logits_hardly_change():
    random = np.random.default_rng(0)
    reference = random.normal(0, 5, (300, 1, 4)) + random.normal(0, 0.01, (300, 3, 4))
    narrow = reference.mean(axis=1, keepdims=True) + 0.97 * (reference - reference.mean(axis=1, keepdims=True))
    (failure,) = compare_half(made_up(reference), made_up(narrow), PEAKS).failures
    assert "the spread between strata is 0.970 times" in failure


def test_a_changed_first_expression_is_weighed_by_the_lead_that_it_had():
    reference = np.tile(np.array([[[3.0, 0.0, -7.0]]]), (400, 1, 1))
    reference[0, 0] = (1.0, 0.96, -1)
    close = reference.copy()
    close[0, 0] = (0.96, 1.0, -1)
    parity = compare_half(made_up(reference), made_up(close), PEAKS)
    assert parity.agreement == 399 / 400
    assert parity.widest_flip == pytest.approx(0.004)
    assert not parity.failures
    wide = reference.copy()
    wide[0, 0, 1] = 1.2
    far = reference.copy()
    far[0, 0] = (1.0, 0.7, -1)
    assert any("changed" in line for line in compare_half(made_up(far), made_up(wide), PEAKS).failures)


@pytest.mark.parametrize(("lead", "share"), [(0.009, 1.0), (0.0105, 0.98)])
def test_too_many_changed_first_expressions_are_refused_unless_their_lead_was_below_a_thousandth_of_the_range(
    lead, share
):
    reference = np.tile(np.array([[[3.0, 0.0, -7.0]]]), (100, 1, 1))
    reference[:2, 0] = (1.0, 1.0 - lead, -1)
    other = reference.copy()
    other[:2, 0] = (1.0 - lead, 1.0, -1)
    parity = compare_half(made_up(reference), made_up(other), PEAKS)
    assert parity.agreement == share
    assert parity.widest_flip == pytest.approx(lead / 10)
    assert [f"{share:.2%} of the faces" in line for line in parity.failures] == ([] if share == 1 else [True])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(value):
    reference = np.random.default_rng(0).normal(size=(5, 3, 4))
    broken = reference.copy()
    broken[2, 1, 0] = value
    with np.errstate(invalid="ignore"):
        assert compare_half(made_up(reference), made_up(broken), PEAKS).failures


def test_the_peaks_are_the_largest_outputs_of_the_layers():
    model = tiny_network()
    network = deconfound(model)
    peaks = peaks_of(network)
    assert all(name.split(".")[0] in ("backbone", "generator", "head") for name in peaks)
    with torch.no_grad():
        pixels = torch.from_numpy(FACES).float().permute(0, 3, 1, 2) - network.mean
        base = network.backbone(pixels)
        u, h = network.head(network.generator(base))
    assert peaks["backbone"] == pytest.approx(float(base.abs().max()), rel=1e-4)
    assert peaks["head"] == pytest.approx(max(float(u.abs().max()), float(h.abs().max())), rel=1e-4)


def test_a_layer_near_the_end_of_float16_is_refused_before_it_overflows():
    """The function of pixels stays the same: one layer's outputs grow, and the next layer's weights shrink as much."""
    model = tiny_network(tiny_config(method="baseline"))
    with torch.no_grad():
        projection = model.backbone.projection
        factor = 40_000 / float(peaks_of(deconfound(model))["backbone"])
        projection.weight *= factor
        projection.bias *= factor
        model.classifier.linear.weight /= factor
    (failure,) = check_half_parity(model, exported(model), FACES).failures
    assert "65504 is" in failure
    assert isinstance(model.classifier.linear, nn.Linear)
    with torch.no_grad():
        projection.weight *= 10
        projection.bias *= 10
        model.classifier.linear.weight /= 10
    assert len(check_half_parity(model, exported(model), FACES).failures) > 1
