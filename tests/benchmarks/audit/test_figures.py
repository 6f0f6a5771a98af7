"""Intervals of the audit are those of the closed form: paired between models, and by subject."""

from __future__ import annotations

import numpy as np
import pytest

from iern.audit.answers import VariationAnswers
from iern.audit.changes import CHANGES
from iern.audit.figures import figures

ONE_CHANGE = [CHANGES[0]]
VARIATIONS = 1 + len(CHANGES[0].amounts)


def answers(right: np.ndarray, labels: np.ndarray) -> VariationAnswers:
    """(V, n) whether a model of three expressions is right -> predictions that are."""
    predicted = np.where(right, labels, (labels + 1) % 3)
    probabilities = np.eye(3, dtype=np.float32)[predicted] * np.float32(0.7) + np.float32(0.1)
    return VariationAnswers(probabilities, np.zeros(right.shape))


@pytest.fixture(scope="module")
def two_models():
    """(2, V, n) whether two models are right about 1500 faces: they differ on few, mostly in favour of the other."""
    random = np.random.default_rng(4)
    first = random.random((VARIATIONS, 1500)) < 0.7
    other = np.where(random.random(first.shape) < 0.06, random.random(first.shape) < 0.8, first)
    return np.stack([first, other])


def width(interval: dict) -> float:
    return interval["high"] - interval["low"]


def test_intervals_of_accuracy_and_of_paired_differences_are_those_of_the_closed_form(two_models):
    labels = np.arange(1500) % 3
    faces = [str(i) for i in range(1500)]
    first, other = figures([answers(right, labels) for right in two_models], labels, faces, ONE_CHANGE)
    for grade, cells in enumerate(
        zip(first["grades"][ONE_CHANGE[0].name], other["grades"][ONE_CHANGE[0].name], strict=True)
    ):
        a, b = two_models[:, grade].astype(float)
        share = cells[0]["accuracy"]
        assert share["value"] == pytest.approx(a.mean())
        assert width(share) == pytest.approx(2 * 1.96 * np.sqrt(a.mean() * (1 - a.mean()) / 1500), rel=0.1)
        difference = cells[1]["minus_first"]["accuracy"]
        assert difference["value"] == pytest.approx(np.mean(b - a))
        error = np.std(b - a) / np.sqrt(1500)
        assert difference["low"] == pytest.approx(np.mean(b - a) - 1.96 * error, abs=0.2 * error)
        assert difference["high"] == pytest.approx(np.mean(b - a) + 1.96 * error, abs=0.2 * error)
        assert width(difference) < 0.5 * width(share), "were it not paired, it would be wider than either"
