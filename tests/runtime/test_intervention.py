"""The mean over the strata, the disagreement and softmax, compared with their definitions in float64 and with SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from iern.runtime.artifact import Artifact
from iern.runtime.imaging.preprocess import InputSpec
from iern.runtime.intervention import average_over_strata, softmax, stratum_disagreement

CERTAIN = 1000.0
"""A logit that gives its expression a probability of 1."""


def logits_of_faces(faces: int = 6, strata: int = 3, expressions: int = 7) -> np.ndarray:
    """(faces, strata, expressions) float64."""
    return np.random.default_rng(0).normal(0, 2, (faces, strata, expressions))


def model(answer: str, temperature: float, strata: int = 3) -> Artifact:
    names = tuple(f"stratum {index}" for index in range(strata))
    return Artifact(tuple("abcdefg"), names, InputSpec(32), answer=answer, temperature=temperature)


def probabilities_by_hand(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in logits]
    return [power / sum(powers) for power in powers]


def disagreement_by_hand(strata: list[list[float]], temperature: float) -> float:
    """(N, E) logits of one face -> its disagreement, from the definition in plain Python."""
    rows = [probabilities_by_hand(logits, temperature) for logits in strata]
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return sum(sum(abs(p - q) for p, q in zip(row, mean, strict=True)) / 2 for row in rows) / len(rows)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_is_scipys_and_keeps_the_number_type(dtype):
    logits = logits_of_faces().astype(dtype)
    found = softmax(logits)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, special.softmax(logits.astype(np.float64), axis=-1), rtol=1e-5)


def test_softmax_of_very_large_and_very_small_logits_is_finite():
    with np.errstate(over="raise", invalid="raise"):
        np.testing.assert_array_equal(softmax(np.array([[CERTAIN, 0.0], [-CERTAIN, -CERTAIN]])), [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("answer", ["logits", "probabilities"])
def test_the_mean_is_that_of_a_loop_over_the_strata(answer, temperature):
    stratum_logits = logits_of_faces()
    found = average_over_strata(stratum_logits, model(answer, temperature))
    for face, strata in enumerate(stratum_logits):
        logits, mean = np.zeros(7), np.zeros(7)
        for row in strata:
            logits += row / len(strata)
            mean += np.array(probabilities_by_hand(row.tolist(), temperature)) / len(strata)
        expected = mean if answer == "probabilities" else probabilities_by_hand(logits.tolist(), temperature)
        np.testing.assert_allclose(found.logits[face], logits, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.probabilities[face], expected, rtol=1e-5)
    np.testing.assert_allclose(found.stratum_logits, stratum_logits, rtol=1e-6)
    assert {array.dtype for array in vars(found).values()} == {np.dtype(np.float32)}


def test_with_one_stratum_both_means_are_its_softmax():
    stratum_logits = logits_of_faces(strata=1)
    for answer in ("logits", "probabilities"):
        found = average_over_strata(stratum_logits, model(answer, 1.7, strata=1))
        np.testing.assert_allclose(found.probabilities, special.softmax(stratum_logits[:, 0] / 1.7, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_disagreement_follows_its_definition(temperature):
    logits = logits_of_faces().astype(np.float32)
    expected = [disagreement_by_hand(face.tolist(), temperature) for face in logits]
    np.testing.assert_allclose(stratum_disagreement(logits, temperature), expected, rtol=1e-9)
    assert 0 < min(expected) < max(expected) < 1


@pytest.mark.parametrize("strata", [1, 2, 3, 10])
def test_strata_that_are_each_certain_of_another_expression_disagree_as_far_as_they_can(strata):
    logits = (CERTAIN * np.eye(strata, max(2, strata)))[None]
    assert stratum_disagreement(logits, 1.0)[0] == pytest.approx(1 - 1 / strata)


@pytest.mark.parametrize("strata", [1, 2, 3, 10])
def test_disagreement_is_from_0_to_its_bound_for_any_logits(strata):
    logits = np.random.default_rng(strata).normal(0, 1, (500, strata, 7)) * np.logspace(-2, 2, 500)[:, None, None]
    found = stratum_disagreement(logits, 1.0)
    assert found.min() >= 0
    assert found.max() <= 1 - 1 / strata + 1e-12


def test_strata_with_the_same_probabilities_do_not_disagree_whatever_is_added_to_their_logits():
    alike = np.array([[1.0, -2.0, 0.5], [101.0, 98.0, 100.5]])
    np.testing.assert_allclose(stratum_disagreement(alike[None], 1.0), 0, atol=1e-12)


def test_no_faces_have_no_disagreement():
    assert stratum_disagreement(np.empty((0, 3, 7), np.float32), 1.0).shape == (0,)
