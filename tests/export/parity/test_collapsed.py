"""The gate of collapsed strata accepts a file that answers as the network does, and refuses any other."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from doubles.tiny_export import exported_tiny, made_up
from doubles.tiny_network import close_centres, random_faces, sequential_logits, tiny_config, tiny_network
from iern.export.graph.collapse import collapsed
from iern.export.parity.collapsed import check_collapsed_parity, compare_collapsed
from iern.export.parity.model_outputs import ModelOutputs
from iern.runtime.intervention import stratum_disagreement

FACES = random_faces(24)
TEMPERATURE = 1.0


def answers(*rows: tuple[int, tuple[float, ...]]) -> ModelOutputs:
    """(how many faces, probabilities) -> the outputs of a network with three strata alike."""
    probabilities = np.concatenate([np.tile(row, (count, 1)) for count, row in rows])
    return made_up(np.tile(np.log(probabilities)[:, None], (1, 3, 1)))


@pytest.mark.parametrize("answer", ["logits", "probabilities"])
def test_close_centres_pass_and_the_numbers_are_those_of_the_equations(answer):
    model = close_centres(tiny_network(tiny_config(answer=answer)), 1e-3)
    file = exported_tiny(collapsed(model))
    parity = check_collapsed_parity(model, file, FACES, TEMPERATURE)
    assert not parity.failures and parity.faces == len(FACES) and parity.agreement == 1
    by_stratum = sequential_logits(model, FACES)
    assert parity.disagreement == pytest.approx(stratum_disagreement(by_stratum.numpy(), TEMPERATURE).mean())
    assert 0 < parity.probabilities < 1e-4
    assert json.loads(json.dumps(parity.to_dict(), allow_nan=False))["faces"] == len(FACES)


@torch.no_grad()
def test_centres_that_differ_much_are_refused_with_the_numbers():
    model = tiny_network()
    parity = check_collapsed_parity(model, exported_tiny(collapsed(model)), FACES, TEMPERATURE)
    expected = sequential_logits(model, FACES).mean(dim=1).softmax(dim=1)
    at_mean = sequential_logits(close_centres(model, 0), FACES).mean(dim=1).softmax(dim=1)
    difference = float((expected - at_mean).abs().max())
    assert difference > 0.01
    assert parity.probabilities == pytest.approx(difference, abs=1e-5)
    assert any(f"probabilities differ by {difference:.1e}, limit 0.01" in failure for failure in parity.failures)


def test_a_change_is_weighed_by_the_lead_that_it_had_in_probability():
    clear = 399, (0.9, 0.05, 0.05)
    reference = answers(clear, (1, (0.4504, 0.4496, 0.1)))
    assert not compare_collapsed(reference, answers(clear, (1, (0.4499, 0.4501, 0.1)))).failures
    reference = answers(clear, (1, (0.451, 0.449, 0.1)))
    (failure,) = compare_collapsed(reference, answers(clear, (1, (0.449, 0.451, 0.1)))).failures
    assert "a first expression with a lead of 2.0e-03 changed, limit 0.001" in failure


def test_too_many_changes_are_refused_however_small_their_lead():
    reference = answers((98, (0.9, 0.1)), (2, (0.5001, 0.4999)))
    (failure,) = compare_collapsed(reference, answers((98, (0.9, 0.1)), (2, (0.4999, 0.5001)))).failures
    assert "98.00% of the faces keep their first expression, limit 99.5%" in failure


def test_a_probability_that_moves_is_refused_though_every_face_keeps_its_expression():
    assert not compare_collapsed(answers((9, (0.7, 0.3))), answers((9, (0.709, 0.291)))).failures
    (failure,) = compare_collapsed(answers((9, (0.7, 0.3))), answers((9, (0.711, 0.289)))).failures
    assert "probabilities differ by 1.1e-02" in failure


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(value):
    logits = np.random.default_rng(0).normal(size=(5, 1, 4))
    broken = logits.copy()
    broken[2, 0, 0] = value
    with np.errstate(invalid="ignore"):
        assert compare_collapsed(made_up(logits), made_up(broken)).failures
