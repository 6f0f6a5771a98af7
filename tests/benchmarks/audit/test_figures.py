"""Intervals of the audit are those of the closed form: paired between models, and by subject."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.audit.answers import VariationAnswers
from benchmarks.audit.changes import CHANGES
from benchmarks.audit.figures import figures, resampled_means

ONE_CHANGE = [CHANGES[0]]
VARIATIONS = 1 + len(CHANGES[0].amounts)


def answers(right: np.ndarray, labels: np.ndarray) -> VariationAnswers:
    """(V, n) whether a model of three expressions is right -> answers that are."""
    chosen = np.where(right, labels, (labels + 1) % 3)
    probabilities = np.eye(3, dtype=np.float32)[chosen] * np.float32(0.7) + np.float32(0.1)
    return VariationAnswers(probabilities, np.zeros(right.shape))


@pytest.fixture(scope="module")
def two_models():
    """(2, V, n) whether two models are right about 1500 faces: they differ on few, and those lean to one side."""
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


def test_the_faces_of_a_subject_are_drawn_together(two_models):
    """Four copies of each face say no more than one: by subject the interval stays, by face it halves."""
    right = np.repeat(two_models[0][0].astype(float), 4)[:, None]
    subjects = [str(i // 4) for i in range(len(right))]
    by_subject = np.std(resampled_means(right, subjects))
    by_face = np.std(resampled_means(right, [str(i) for i in range(len(right))]))
    share = right.mean()
    assert by_subject == pytest.approx(np.sqrt(share * (1 - share) / 1500), rel=0.06)
    assert by_face == pytest.approx(by_subject / 2, rel=0.1)


def test_subjects_of_unlike_numbers_of_faces_are_weighed_by_their_faces():
    """The linearised variance of a ratio of two sums, in which the number of faces varies as well."""
    random = np.random.default_rng(2)
    sizes = random.integers(1, 9, 800)
    rates = random.beta(2, 1, 800)
    values = np.concatenate([random.random(size) < rate for size, rate in zip(sizes, rates, strict=True)]).astype(float)
    subjects = np.repeat(np.arange(800), sizes)
    drawn = resampled_means(values[:, None], [str(i) for i in subjects])
    residuals = np.bincount(subjects, values - values.mean())
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.002)
    assert drawn.std() == pytest.approx(np.sqrt((residuals**2).sum()) / len(values), rel=0.06)


def test_one_drawing_serves_all_columns_and_is_the_same_every_time(two_models):
    right = two_models[0][0].astype(float)
    drawn = resampled_means(np.stack([right, right, 1 - right], -1), [str(i) for i in range(1500)])
    assert drawn.shape == (2000, 3)
    assert np.array_equal(drawn[:, 0], drawn[:, 1])
    assert np.allclose(drawn[:, 0] + drawn[:, 2], 1)
    assert np.array_equal(resampled_means(right[:, None], [str(i) for i in range(1500)])[:, 0], drawn[:, 0])
