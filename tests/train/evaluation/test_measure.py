"""The figures agree with scikit-learn, have intervals, and are None if they do not exist."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
    roc_auc_score,
)

from iern.train.evaluation.measure import FEW, LabelledPredictions, figures, measure

NAMES = ("anger", "fear", "happiness")
AVERAGED = ("accuracy", "mean_recall", "macro_f1", "coverage", "risk")
SINGLE = ("accuracy", "mean_recall", "macro_f1", "ece", "coverage", "risk", "auroc_disagreement", "auroc_improbability")


def random_predictions(count: int = 400, seed: int = 0) -> LabelledPredictions:
    """Mostly right; both kinds of doubt are a little larger for wrong ones; two strata."""
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
def predictions():
    return random_predictions()


@pytest.fixture(scope="module")
def measured(predictions):
    return measure(predictions, NAMES, threshold=0.6)


def test_the_auroc_of_errors_is_that_of_scikit_learn(predictions, measured):
    wrong = predictions.probabilities.argmax(1) != predictions.labels
    assert measured["auroc_disagreement"] == pytest.approx(roc_auc_score(wrong, predictions.disagreement))
    expected = roc_auc_score(wrong, -predictions.probabilities.max(1).astype(float))
    assert measured["auroc_improbability"] == pytest.approx(expected)
    assert 0.6 < measured["auroc_disagreement"] < 0.95


def test_coverage_and_risk_are_of_the_faces_that_are_not_uncertain(predictions, measured):
    certain = [i for i, row in enumerate(predictions.probabilities.tolist()) if max(row) >= 0.6]
    wrong = [i for i in certain if predictions.probabilities[i].argmax() != predictions.labels[i]]
    assert 0 < len(wrong) < len(certain) < 400
    assert measured["coverage"] == pytest.approx(len(certain) / 400)
    assert measured["risk"] == pytest.approx(len(wrong) / len(certain))
    assert measured["threshold"] == 0.6


def test_every_figure_is_inside_its_interval_and_a_stratums_intervals_are_wider(measured):
    parts = [measured, *measured["strata"].values()]
    for part in parts:
        for name in SINGLE:
            low, high = part["intervals"][name]
            assert low <= part[name] <= high or name == "ece", name  # ECE is biased upwards in every draw
            assert low < high
    for name in ("accuracy", "auroc_improbability"):
        width = [np.ptp(part["intervals"][name]) for part in parts]
        assert width[0] < min(width[1:])


def test_an_expression_of_few_faces_is_counted_and_has_no_interval(predictions, measured):
    for part, own in (
        (measured, predictions),
        *((measured["strata"][name], predictions.select(predictions.strata == name)) for name in "xy"),
    ):
        recalls = recall_score(own.labels, own.probabilities.argmax(1), average=None)
        for i, name in enumerate(NAMES):
            right, total = part["counts"][name]
            assert total == (own.labels == i).sum()
            assert right / total == pytest.approx(recalls[i]) == pytest.approx(part["recall"][name])
            assert (part["intervals"]["recall"][name] is None) == (total < FEW)
    assert measured["counts"]["happiness"][1] < FEW < measured["counts"]["fear"][1]


def test_each_expression_has_scikit_learns_precision_and_f1_inside_intervals(predictions, measured):
    predicted = predictions.probabilities.argmax(1)
    precision, _, f1, support = precision_recall_fscore_support(predictions.labels, predicted)
    for i, name in enumerate(NAMES):
        assert measured["precision"][name] == pytest.approx(precision[i])
        assert measured["f1"][name] == pytest.approx(f1[i])
        for key in ("precision", "f1"):
            bounds = measured["intervals"][key][name]
            assert (bounds is None) == (support[i] < FEW)
            assert bounds is None or bounds[0] < measured[key][name] < bounds[1]
    assert measured["macro_f1"] == pytest.approx(np.mean(f1))


def test_an_expression_that_is_never_predicted_has_no_precision_and_one_without_a_face_no_f1(predictions):
    never = predictions.probabilities.copy()
    never[:, 1] = 0
    found = measure(dataclasses.replace(predictions, probabilities=never), NAMES)
    assert (found["precision"]["fear"], found["f1"]["fear"]) == (None, 0)
    assert found["intervals"]["precision"]["fear"] is None
    absent = measure(dataclasses.replace(predictions, labels=predictions.labels // 2), NAMES)
    assert (absent["recall"]["happiness"], absent["f1"]["happiness"]) == (None, None)
    assert absent["precision"]["happiness"] == 0


def test_a_set_counts_as_much_as_another_in_the_mean_over_sets(predictions):
    uneven = dataclasses.replace(predictions, strata=np.where(np.arange(400) < 40, "small", "large"))
    found = measure(uneven, NAMES, threshold=0.6)
    assert set(found["mean_over_sets"]) == {*AVERAGED, "intervals"}
    for name in AVERAGED:
        expected = np.mean([found["strata"][each][name] for each in ("small", "large")])
        assert found["mean_over_sets"][name] == pytest.approx(expected)
    parts = [(uneven.labels[own], uneven.probabilities[own].argmax(1)) for own in (slice(40), slice(40, 400))]
    for name, score in (
        ("accuracy", accuracy_score),
        ("mean_recall", balanced_accuracy_score),
        ("macro_f1", lambda *pair: f1_score(*pair, average="macro", labels=np.unique(pair[0]))),
    ):
        assert found["mean_over_sets"][name] == pytest.approx(np.mean([score(*part) for part in parts]))


def test_the_interval_of_the_mean_over_sets_is_that_of_independent_sets(predictions):
    """The normal approximation. The sets are equal, face by face: drawn alike, they would give a wider interval."""
    twice = LabelledPredictions(
        *(np.concatenate([getattr(predictions, field.name)] * 2) for field in dataclasses.fields(LabelledPredictions))
    )
    units = np.array([f"image {i}" for i in range(800)])
    twins = dataclasses.replace(twice, strata=np.repeat(["one", "other"], 400), units=units)
    found = measure(twins, NAMES, threshold=0.6)["mean_over_sets"]
    accuracy = found["accuracy"]
    error = np.sqrt(accuracy * (1 - accuracy) / 800)
    assert found["intervals"]["accuracy"] == pytest.approx(
        [accuracy - 1.96 * error, accuracy + 1.96 * error], abs=0.004
    )
    assert 0.01 < error < 0.03


def test_a_figure_that_one_set_lacks_has_no_mean_over_sets(predictions):
    unsure = predictions.strata == "x"
    probabilities = np.where(unsure[:, None], np.float32(1 / 3), predictions.probabilities)
    found = measure(dataclasses.replace(predictions, probabilities=probabilities), NAMES, threshold=0.6)
    assert found["strata"]["x"]["risk"] is None and found["strata"]["y"]["risk"] is not None
    assert found["mean_over_sets"]["risk"] is None and found["mean_over_sets"]["intervals"]["risk"] is None
    assert found["mean_over_sets"]["coverage"] == pytest.approx(found["strata"]["y"]["coverage"] / 2)


def test_the_mean_over_sets_has_no_interval_if_a_set_is_of_one_person(predictions):
    units = np.where(predictions.strata == "x", "subject 1", predictions.units)
    found = measure(dataclasses.replace(predictions, units=units), NAMES)["mean_over_sets"]
    assert found["accuracy"] is not None
    assert set(found["intervals"].values()) == {None}


def test_confirmed_faces_are_also_measured_separately(predictions, measured):
    own = predictions.confirmed
    right = predictions.probabilities.argmax(1) == predictions.labels
    assert measured["confirmed"]["n"] == own.sum()
    assert measured["confirmed"]["accuracy"] == pytest.approx(right[own].mean())
    assert measure(dataclasses.replace(predictions, confirmed=np.zeros(400, bool)), NAMES)["confirmed"] is None


def test_a_weight_counts_a_face_as_if_it_were_repeated(predictions):
    weights = np.random.default_rng(3).integers(0, 4, 400)
    again = np.repeat(np.arange(400), weights)
    repeated = LabelledPredictions(
        *(getattr(predictions, field.name)[again] for field in dataclasses.fields(LabelledPredictions))
    )
    for found, expected in zip(figures(predictions, 0.6, weights.astype(float)), figures(repeated, 0.6), strict=True):
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
def test_a_figure_that_does_not_exist_is_none(predictions, change, absent):
    found = measure(dataclasses.replace(predictions, **change(predictions)), NAMES, threshold=0.6)
    assert {name for name in SINGLE if found[name] is None} == absent
    assert all(found["intervals"][name] is None for name in absent)


def test_the_figures_are_plain_types_the_same_each_time(predictions, measured):
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    assert measure(predictions, NAMES, threshold=0.6) == measured
