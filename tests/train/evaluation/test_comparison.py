"""Two models on the same faces: the tests are those of SciPy, and the draws are shared by both."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import balanced_accuracy_score, f1_score

from iern.train.evaluation.comparison import COMPARED, bootstrap_p, compare, mcnemar
from iern.train.evaluation.measure import LabelledPredictions


def predictions(predicted: np.ndarray, labels: np.ndarray, units: list[str] | None = None) -> LabelledPredictions:
    """The predictions of a model that is sure of each."""
    count = len(labels)
    return LabelledPredictions(
        probabilities=np.eye(3, dtype=np.float32)[predicted],
        disagreement=np.zeros(count),
        labels=labels,
        strata=np.full(count, "web"),
        units=np.array(units or [f"image {i}" for i in range(count)]),
        confirmed=np.zeros(count, bool),
    )


def two_models(count: int, errors: tuple[float, float], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and the predictions of two models that are wrong with these probabilities."""
    random = np.random.default_rng(seed)
    labels = random.choice(3, count, p=[0.5, 0.3, 0.2])
    wrong = random.random((2, count)) < np.reshape(errors, (2, 1))
    first, second = np.where(wrong, (labels + random.integers(1, 3, (2, count))) % 3, labels)
    return labels, first, second


@pytest.mark.parametrize("alone", [(0, 0), (1, 0), (3, 11), (25, 24), (400, 310), (5, 3000)])
def test_mcnemars_p_is_that_of_scipys_exact_binomial_test(alone):
    expected = binomtest(alone[0], sum(alone)).pvalue if sum(alone) else 1.0
    assert mcnemar(*alone) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(*alone) == mcnemar(*reversed(alone))


def test_the_differences_are_those_of_scikit_learns_figures_and_the_counts_add_up():
    labels, first, second = two_models(500, (0.2, 0.3))
    found = compare(predictions(first, labels), predictions(second, labels))
    assert found["difference"]["accuracy"] == pytest.approx(np.mean(first == labels) - np.mean(second == labels))
    for name, score in (
        ("mean_recall", balanced_accuracy_score),
        ("macro_f1", lambda *pair: f1_score(*pair, average="macro")),
    ):
        assert found["difference"][name] == pytest.approx(score(labels, first) - score(labels, second))
    right = np.array([first == labels, second == labels])
    assert found["first_alone_right"] == (right[0] & ~right[1]).sum()
    assert found["second_alone_right"] == (~right[0] & right[1]).sum()
    assert found["both_right"] == right.all(0).sum() and found["both_wrong"] == (~right).all(0).sum()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_draws_are_paired_so_the_interval_is_that_of_the_differences():
    """The normal approximation for the mean of the differences. Unpaired draws would give four times its width."""
    labels, first, _ = two_models(2000, (0.3, 0.3))
    second = first.copy()
    second[:40] = (labels[:40] + 1) % 3  # the two models differ on few faces
    found = compare(predictions(first, labels), predictions(second, labels))
    difference = (first == labels).astype(float) - (second == labels)
    error = difference.std() / np.sqrt(2000)
    expected = difference.mean() + norm.ppf([0.025, 0.975]) * error
    assert found["intervals"]["accuracy"] == pytest.approx(expected, abs=0.0015)
    unpaired = np.sqrt(2 * 0.3 * 0.7 / 2000)
    assert error < unpaired / 4


def test_faces_of_one_person_are_drawn_together():
    labels, first, second = two_models(300, (0.2, 0.3))
    alone = compare(predictions(first, labels), predictions(second, labels))
    people = [f"subject {i}" for i in range(300)]
    repeated = [np.repeat(each, 10) for each in (first, second, labels)]
    many = compare(*(predictions(each, repeated[2], list(np.repeat(people, 10))) for each in repeated[:2]))
    assert (many["n"], many["units"]) == (3000, 300)
    widths = [np.ptp(each["intervals"]["mean_recall"]) for each in (alone, many)]
    assert widths[1] == pytest.approx(widths[0], rel=0.15)
    assert many["mcnemar_p"] < alone["mcnemar_p"], "the exact test takes the ten for independent"


def test_a_better_model_is_told_from_chance_and_an_equal_one_is_not():
    labels, first, second = two_models(1000, (0.1, 0.3))
    better = compare(predictions(first, labels), predictions(second, labels))
    assert all(better["bootstrap_p"][name] < 0.01 and better["intervals"][name][0] > 0 for name in COMPARED)
    assert better["mcnemar_p"] < 0.001
    same = compare(predictions(first, labels), predictions(first, labels))
    assert same["difference"] == dict.fromkeys(COMPARED, 0.0)
    assert same["mcnemar_p"] == 1 and set(same["bootstrap_p"].values()) == {1.0}


def test_the_p_of_equal_models_is_below_five_percent_about_that_often():
    """Its distribution under no difference is what makes it a p value."""
    draws = np.random.default_rng(1).normal(size=(400, 1))
    values = [bootstrap_p(np.random.default_rng(i).normal(centre, 1, 999)) for i, centre in enumerate(draws[:, 0])]
    assert np.mean(np.array(values) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert min(values) >= 2 / 1000


def test_a_single_person_has_differences_without_intervals():
    labels, first, second = two_models(50, (0.1, 0.3))
    pair = [dataclasses.replace(predictions(each, labels), units=np.full(50, "subject 1")) for each in (first, second)]
    found = compare(*pair)
    assert set(found["intervals"].values()) == set(found["bootstrap_p"].values()) == {None}
    assert found["difference"]["accuracy"] > 0
