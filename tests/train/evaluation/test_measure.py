"""What is measured with intervals: agreement with scikit-learn, and what has no figure has none."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from iern.train.evaluation.measure import FEW, LabelledPredictions, figures, measure

NAMES = ("anger", "fear", "happiness")
SINGLE = ("accuracy", "mean_recall", "ece", "coverage", "risk", "auroc_disagreement", "auroc_improbability")


def judged(count: int = 400, seed: int = 0) -> LabelledPredictions:
    """Drawn answers, mostly right; doubt of both kinds that knows a little; two strata."""
    random = np.random.default_rng(seed)
    labels = random.choice(3, count, p=[0.7, 0.25, 0.05])
    logits = random.normal(size=(count, 3)) + 1.5 * np.eye(3)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = probabilities.argmax(1) != labels
    return LabelledPredictions(
        probabilities=probabilities.astype(np.float32),
        disagreement=random.random(count) + 0.3 * wrong,
        labels=labels,
        strata=random.choice(["x", "y"], count),
        units=np.array([f"image {i}" for i in range(count)]),
        confirmed=random.random(count) < 0.8,
    )


@pytest.fixture(scope="module")
def drawn():
    return judged()


@pytest.fixture(scope="module")
def measured(drawn):
    return measure(drawn, NAMES, threshold=0.6)


def test_errors_are_told_as_scikit_learn_says(drawn, measured):
    wrong = drawn.probabilities.argmax(1) != drawn.labels
    assert measured["auroc_disagreement"] == pytest.approx(roc_auc_score(wrong, drawn.disagreement))
    expected = roc_auc_score(wrong, -drawn.probabilities.max(1).astype(float))
    assert measured["auroc_improbability"] == pytest.approx(expected)
    assert 0.6 < measured["auroc_disagreement"] < 0.95


def test_coverage_and_risk_are_of_the_faces_that_are_not_uncertain(drawn, measured):
    certain = [i for i, row in enumerate(drawn.probabilities.tolist()) if max(row) >= 0.6]
    wrong = [i for i in certain if drawn.probabilities[i].argmax() != drawn.labels[i]]
    assert 0 < len(wrong) < len(certain) < 400
    assert measured["coverage"] == pytest.approx(len(certain) / 400)
    assert measured["risk"] == pytest.approx(len(wrong) / len(certain))
    assert measured["threshold"] == 0.6


def test_every_figure_lies_in_its_interval_and_a_stratums_intervals_are_wider(measured):
    parts = [measured, *measured["strata"].values()]
    for part in parts:
        for name in SINGLE:
            low, high = part["intervals"][name]
            assert low <= part[name] <= high or name == "ece", name  # ECE is biased upwards in every draw
            assert low < high
    for name in ("accuracy", "auroc_improbability"):
        width = [np.ptp(part["intervals"][name]) for part in parts]
        assert width[0] < min(width[1:])


def test_an_expression_of_few_faces_is_counted_and_has_no_interval(drawn, measured):
    for part, own in (
        (measured, drawn),
        *((measured["strata"][name], drawn.of(drawn.strata == name)) for name in "xy"),
    ):
        recalls = recall_score(own.labels, own.probabilities.argmax(1), average=None)
        for i, name in enumerate(NAMES):
            right, total = part["counts"][name]
            assert total == (own.labels == i).sum()
            assert right / total == pytest.approx(recalls[i]) == pytest.approx(part["recall"][name])
            assert (part["intervals"]["recall"][name] is None) == (total < FEW)
    assert measured["counts"]["happiness"][1] < FEW < measured["counts"]["fear"][1]


def test_confirmed_faces_are_measured_for_themselves(drawn, measured):
    own = drawn.confirmed
    right = drawn.probabilities.argmax(1) == drawn.labels
    assert measured["confirmed"]["n"] == own.sum()
    assert measured["confirmed"]["accuracy"] == pytest.approx(right[own].mean())
    assert measure(dataclasses.replace(drawn, confirmed=np.zeros(400, bool)), NAMES)["confirmed"] is None


def test_a_weight_counts_a_face_as_often_as_if_it_stood_there_so_often(drawn):
    weights = np.random.default_rng(3).integers(0, 4, 400)
    again = np.repeat(np.arange(400), weights)
    repeated = LabelledPredictions(
        *(getattr(drawn, field.name)[again] for field in dataclasses.fields(LabelledPredictions))
    )
    for found, expected in zip(figures(drawn, 0.6, weights.astype(float)), figures(repeated, 0.6), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "absent"),
    [
        (lambda it: {"disagreement": np.zeros(400)}, {"auroc_disagreement"}),
        (lambda it: {"labels": it.probabilities.argmax(1)}, {"auroc_disagreement", "auroc_improbability"}),
        (lambda it: {"labels": it.probabilities.argmin(1)}, {"auroc_disagreement", "auroc_improbability"}),
        (lambda it: {"probabilities": np.full((400, 3), 1 / 3, np.float32)}, {"risk", "auroc_improbability"}),
    ],
    ids=["one stratum", "no error", "nothing right", "one probability"],
)
def test_what_cannot_be_told_is_none(drawn, change, absent):
    found = measure(dataclasses.replace(drawn, **change(drawn)), NAMES, threshold=0.6)
    assert {name for name in SINGLE if found[name] is None} == absent
    assert all(found["intervals"][name] is None for name in absent)


def test_the_figures_are_plain_types_the_same_each_time(drawn, measured):
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    assert measure(drawn, NAMES, threshold=0.6) == measured
