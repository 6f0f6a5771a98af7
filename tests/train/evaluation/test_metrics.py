"""The reported figures against numbers counted by hand and scikit-learn."""

import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from iern.train.evaluation.metrics import (
    CALIBRATION_BINS,
    calibration_error,
    error_auroc,
    evaluate_predictions,
    rates,
)

NAMES = ("anger", "fear", "happiness")


def certain(predicted):
    """Probabilities of 0.8 for the predicted expressions."""
    probabilities = np.full((len(predicted), len(NAMES)), 0.1, np.float32)
    probabilities[np.arange(len(predicted)), predicted] = 0.8
    return probabilities


@pytest.fixture
def drawn():
    """200 labelled predictions, unequal expressions, two strata."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 200, p=[0.7, 0.2, 0.1])
    logits = rng.normal(size=(200, 3)) + 1.5 * np.eye(3)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities.astype(np.float32), labels, rng.choice(["x", "y"], 200)


def test_accuracy_is_pooled_over_images_and_mean_recall_over_expressions():
    labels, predicted = [0] * 8 + [1] * 2, [0] * 8 + [0, 1]
    found = evaluate_predictions(certain(predicted), labels, ["x"] * 10, NAMES)
    assert found["n"] == 10
    assert found["accuracy"] == pytest.approx(9 / 10)
    assert found["mean_recall"] == pytest.approx((8 / 8 + 1 / 2) / 2)


def test_an_expression_without_an_image_has_no_recall_and_does_not_count_as_0():
    found = evaluate_predictions(certain([0, 1, 2]), [0, 1, 1], ["x"] * 3, NAMES)
    assert found["recall"] == {"anger": 1.0, "fear": 0.5, "happiness": None}
    assert found["mean_recall"] == pytest.approx(0.75)


def test_rows_of_the_confusion_are_true_and_columns_predicted():
    found = evaluate_predictions(certain([1, 1, 2]), [0, 0, 1], ["x"] * 3, NAMES)
    assert found["confusion"] == [[0, 2, 0], [0, 0, 1], [0, 0, 0]]


def test_the_figures_of_a_stratum_are_those_of_its_images_alone():
    found = evaluate_predictions(certain([0, 1, 2, 0]), [0, 1, 1, 1], ["x", "y", "y", "x"], NAMES)
    assert found["strata"] == {
        "x": {"n": 2, "accuracy": 0.5, "mean_recall": 0.5},
        "y": {"n": 2, "accuracy": 0.5, "mean_recall": 0.5},
    }
    uneven = evaluate_predictions(certain([0, 0, 0, 1]), [0, 0, 1, 1], ["x", "x", "x", "y"], NAMES)["strata"]
    assert uneven["x"] == {"n": 3, "accuracy": pytest.approx(2 / 3), "mean_recall": 0.5}
    assert uneven["y"] == {"n": 1, "accuracy": 1.0, "mean_recall": 1.0}


def test_rates_and_confusion_agree_with_scikit_learn(drawn):
    probabilities, labels, strata = drawn
    predicted = probabilities.argmax(1)
    found = evaluate_predictions(probabilities, labels.tolist(), strata.tolist(), NAMES)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert found["mean_recall"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(labels, predicted))
    assert list(found["recall"].values()) == pytest.approx(
        sklearn_metrics.recall_score(labels, predicted, average=None)
    )
    assert found["confusion"] == sklearn_metrics.confusion_matrix(labels, predicted).tolist()
    for name in ("x", "y"):
        own = strata == name
        expected = sklearn_metrics.balanced_accuracy_score(labels[own], predicted[own])
        assert found["strata"][name]["mean_recall"] == pytest.approx(expected)


@pytest.mark.parametrize("present", [(0, 1, 2), (0, 2), (1,)], ids=str)
def test_macro_f1_is_that_of_scikit_learn_over_the_expressions_that_have_a_face(drawn, present):
    probabilities, labels, _ = drawn
    own = np.isin(labels, present)
    probabilities, labels = probabilities[own], labels[own]
    predicted = probabilities.argmax(1)
    assert set(predicted) == {0, 1, 2}, "absent expressions have to be predicted"
    for weights in (None, np.random.default_rng(2).integers(1, 4, own.sum()).astype(float)):
        expected = sklearn_metrics.f1_score(labels, predicted, labels=present, average="macro", sample_weight=weights)
        assert rates(probabilities, labels, weights).macro_f1 == pytest.approx(expected)


def test_the_calibration_error_is_that_of_scikit_learns_reliability_diagram(drawn):
    probabilities, labels, strata = drawn
    confidence, right = probabilities.max(1).astype(float), probabilities.argmax(1) == labels
    accuracy, mean = calibration_curve(right, confidence, n_bins=CALIBRATION_BINS)
    counts, _ = np.histogram(confidence, CALIBRATION_BINS, (0, 1))
    expected = np.abs(accuracy - mean) @ counts[counts > 0] / 200
    found = evaluate_predictions(probabilities, labels.tolist(), strata.tolist(), NAMES)
    assert found["ece"] == pytest.approx(expected)
    assert expected > 0.01  # an error of 0 would prove little


def test_predictions_that_are_right_as_often_as_they_say_have_no_calibration_error_and_certain_errors_have_1():
    assert calibration_error(certain([0] * 10), np.array([0] * 8 + [1] * 2)) == pytest.approx(0, abs=1e-7)
    assert calibration_error(np.eye(3, dtype=np.float32), np.array([1, 2, 0])) == 1


@pytest.mark.parametrize("digits", [1, 6], ids=["many ties", "no ties"])
def test_the_auroc_of_errors_is_that_of_scikit_learn_with_weights_and_ties(digits):
    random = np.random.default_rng(4)
    wrong = random.random(300) < 0.2
    doubt = np.round(random.random(300) + 0.2 * wrong, digits)
    for weights in (None, random.integers(0, 4, 300).astype(float)):
        expected = sklearn_metrics.roc_auc_score(wrong, doubt, sample_weight=weights)
        assert error_auroc(wrong, doubt, weights) == pytest.approx(expected)
        assert 0.55 < expected < 0.9


def test_the_figures_are_plain_types_that_json_keeps(drawn):
    probabilities, labels, strata = drawn
    found = evaluate_predictions(probabilities, labels, strata, NAMES)
    assert json.loads(json.dumps(found)) == found
