"""Temperature and threshold against known values, a grid, scikit-learn's curves, and the definition."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_curve

from iern.runtime.errors import DataError
from iern.runtime.intervention import softmax
from iern.train.evaluation.calibration import (
    ALL_UNCERTAIN,
    FEWEST,
    TEMPERATURES,
    choose_threshold,
    fit_temperature,
    negative_log_likelihood,
    risk_coverage,
    why_all_uncertain,
)

AVERAGES = ("logits", "probabilities")


def averaged(stratum_logits: np.ndarray, average: str) -> np.ndarray:
    """(n, N, E) logits -> (n, E) probabilities, by Eq. 9 or Eq. 2."""
    return softmax(stratum_logits).mean(1) if average == "probabilities" else softmax(stratum_logits.mean(1))


def drawn(average: str, count: int = 40_000, strata: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(n, N, E) logits, and labels drawn from their probabilities at temperature 1."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (count, 1, 5)) + random.normal(0, 1, (count, strata, 5))
    cumulated = averaged(logits, average).cumsum(axis=1)
    return logits, (random.random((count, 1)) > cumulated).sum(axis=1).clip(max=4)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("factor", [3.0, 1.0, 0.4])
def test_logits_of_a_sound_model_times_a_factor_have_that_temperature(average, factor):
    logits, labels = drawn(average)
    found = fit_temperature(torch.from_numpy(factor * logits), torch.from_numpy(labels), average)
    assert found == pytest.approx(factor, rel=0.03), "40,000 labels determine it to about one per cent"


@pytest.mark.parametrize("average", AVERAGES)
def test_the_temperature_scales_with_the_logits_exactly(average):
    logits, labels = (torch.from_numpy(each) for each in drawn(average, 2000))
    assert fit_temperature(3 * logits, labels, average) == pytest.approx(
        3 * fit_temperature(logits, labels, average), rel=1e-6
    )


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("strata", [1, 3])
def test_no_temperature_of_a_fine_grid_is_likelier_by_scikit_learns_loss(average, strata):
    logits, labels = drawn(average, 500, strata, seed=1)
    logits *= 1.7
    found = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels), average)

    def loss(temperature: float) -> float:
        return float(log_loss(labels, averaged(logits / temperature, average), labels=range(5)))

    grid = np.geomspace(*TEMPERATURES, 500)
    best = grid[np.argmin([loss(temperature) for temperature in grid])]
    assert found == pytest.approx(best, rel=2 * np.log(grid[1] / grid[0]))
    assert loss(found) <= loss(best) + 1e-12


def test_single_precision_logits_are_fitted_in_double():
    logits, labels = (torch.from_numpy(each) for each in drawn("logits", 2000))
    half = fit_temperature(logits.float(), labels, "logits")
    assert half == pytest.approx(fit_temperature(logits, labels, "logits"), rel=1e-6)
    assert half == fit_temperature(logits.float().double(), labels, "logits")


@pytest.mark.parametrize("scale", [1.0, 1000.0], ids=["no error", "no error and nearly certain"])
def test_a_model_that_makes_no_error_has_no_best_temperature(scale):
    labels = torch.arange(50) % 5
    with pytest.raises(DataError, match="the predictions for all 50 faces are right"):
        fit_temperature(scale * torch.eye(5, dtype=torch.float64)[labels][:, None], labels, "logits")


def test_labels_that_have_nothing_to_do_with_the_predictions_have_no_best_temperature():
    random = np.random.default_rng(0)
    logits, labels = drawn("logits", 500)
    with pytest.raises(DataError, match="check their labels"):
        fit_temperature(torch.from_numpy(logits), torch.from_numpy(random.permutation(4 - labels)), "logits")


@pytest.mark.parametrize("scale", [0.001, 1000.0])
def test_a_temperature_outside_the_limits_is_refused_and_reported(scale):
    logits, labels = (torch.from_numpy(each) for each in drawn("logits", 2000))
    unscaled = fit_temperature(logits, labels, "logits")
    with pytest.raises(DataError, match=re.escape(f"faces is {scale * unscaled:.3g}, expected 0.05 to 20")):
        fit_temperature(scale * logits, labels, "logits")


def test_the_likelihood_of_an_impossible_label_is_finite():
    certain = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert torch.isfinite(negative_log_likelihood(certain, torch.tensor([1]))).all()
    likely = torch.tensor([[0.75, 0.25], [0.5, 0.5]], dtype=torch.float64)
    found = negative_log_likelihood(likely, torch.tensor([1, 0]))
    assert found.numpy() == pytest.approx(-np.log([0.25, 0.5]))


def likely(largest: list[float], right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) probabilities with those largest ones, and labels that make the predictions right or wrong."""
    first = np.array(largest)
    return np.stack([first, 1 - first], axis=1), np.array([0 if each else 1 for each in right])


def test_the_curve_is_the_share_of_wrong_predictions_among_the_likeliest_with_ties_together():
    curve = risk_coverage(*likely([0.6, 0.9, 0.8, 0.8, 0.7], [True, True, False, True, False]))
    assert curve.lowest.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert curve.faces.tolist() == [1, 3, 4, 5]
    assert curve.risk.tolist() == pytest.approx([0, 1 / 3, 2 / 4, 2 / 5])


@pytest.mark.parametrize("digits", [1, 8], ids=["many ties", "no ties"])
def test_the_curve_holds_the_counts_of_scikit_learns_roc_curve(digits):
    random = np.random.default_rng(5)
    probabilities = np.round(softmax(random.normal(0, 2, (300, 4))), digits)
    labels = random.integers(0, 4, 300)
    right = probabilities.argmax(1) == labels
    false_share, true_share, thresholds = roc_curve(right, probabilities.max(1), drop_intermediate=False)
    wrong, correct = false_share[1:] * (~right).sum(), true_share[1:] * right.sum()
    curve = risk_coverage(probabilities, labels)
    assert curve.lowest.tolist() == thresholds[1:].tolist()
    assert curve.faces.tolist() == pytest.approx(wrong + correct)
    assert curve.risk == pytest.approx(wrong / (wrong + correct))


def graded(count: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions that are right as often as their probability says."""
    random = np.random.default_rng(seed)
    largest = random.uniform(0.5, 1, count)
    return likely(largest.tolist(), (random.random(count) < largest).tolist())


@pytest.mark.parametrize("target", [0.02, 0.1, 0.2])
def test_no_threshold_keeps_more_faces_at_that_risk(target):
    probabilities, labels = graded()
    largest, wrong = probabilities.max(1), probabilities.argmax(1) != labels
    threshold = choose_threshold(risk_coverage(probabilities, labels), target)
    kept = largest >= threshold
    assert FEWEST <= kept.sum() < 1000 and wrong[kept].mean() <= target
    for lower in largest[largest < threshold]:
        assert wrong[largest >= lower].mean() > target


def test_the_threshold_is_half_way_between_two_faces():
    probabilities, labels = graded()
    largest = probabilities.max(1)
    threshold = choose_threshold(risk_coverage(probabilities, labels), 0.1)
    above, below = largest[largest >= threshold].min(), largest[largest < threshold].max()
    assert threshold - below == pytest.approx(above - threshold)


def test_a_model_that_is_right_often_enough_is_never_uncertain():
    assert choose_threshold(risk_coverage(*graded()), 0.5) == 0


def test_a_target_that_no_threshold_reaches_makes_every_face_uncertain_and_the_smallest_risk_is_told():
    curve = risk_coverage(*graded())
    assert choose_threshold(curve, 0.0) == ALL_UNCERTAIN == 1
    message = why_all_uncertain(curve, 0.0)
    assert re.search(r"at most 0\.0%.*the smallest share is \d.*every face uncertain.*higher --risk", message)


def test_the_risk_of_few_faces_is_not_used():
    curve = risk_coverage(*likely([0.9 - 0.001 * i for i in range(FEWEST - 1)], [True] * (FEWEST - 1)))
    assert choose_threshold(curve, 0.1) == ALL_UNCERTAIN
    assert f"there are {FEWEST - 1} faces" in why_all_uncertain(curve, 0.1)
    assert choose_threshold(curve, 1.0) == 0, "a risk of 1 asks for no measurement"
