"""What an evaluation reports: accuracy, recalls, F1, calibration and confusion, pooled and per stratum.

Every figure takes weights: how often each face counts. For the figure itself each counts once. For its bootstrap
interval (`iern.train.evaluation.bootstrap`) each counts as often as it was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

CALIBRATION_BINS = 15

Weights = NDArray[np.float64]
"""(n,) How often each face counts."""


class Rates(NamedTuple):
    """How often a model is right, and whether its probabilities are calibrated."""

    accuracy: float
    mean_recall: float
    """The mean over the expressions that have a face."""
    macro_f1: float
    """The mean F1 over the expressions that have a face.

    F1 of an expression is 2 right / (true + predicted), in numbers of faces. Predictions of an expression without a
    face lower the recall of the true ones, and have no F1 of their own, which would be 0.
    """
    ece: float
    recall: NDArray[np.float64]
    """(E,) NaN for an expression without a face."""
    precision: NDArray[np.float64]
    """(E,) NaN for an expression that is never predicted."""
    f1: NDArray[np.float64]
    """(E,) NaN for an expression without a face."""


def rates(probabilities: NDArray, labels: NDArray, weights: Weights | None = None) -> Rates:
    """(n, E) probabilities and (n,) labels, of at least one face -> the rates."""
    weights = np.ones(len(labels)) if weights is None else weights
    predicted, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    right = weights * (predicted == labels)
    right_of, true_of = np.bincount(labels, right, classes), np.bincount(labels, weights, classes)
    predicted_of = np.bincount(predicted, weights, classes)
    with np.errstate(invalid="ignore"):
        recall = right_of / true_of
        precision = right_of / predicted_of
        f1 = np.where(true_of > 0, 2 * right_of / (true_of + predicted_of), np.nan)
    return Rates(
        accuracy=float(right.sum() / weights.sum()),
        mean_recall=float(np.nanmean(recall)),
        macro_f1=float(np.nanmean(f1)),
        ece=calibration_error(probabilities, labels, weights),
        recall=recall,
        precision=precision,
        f1=f1,
    )


def calibration_error(probabilities: NDArray, labels: NDArray, weights: Weights | None = None) -> float:
    """The expected calibration error: gaps between largest probability and accuracy, over 15 bins of equal width."""
    weights = np.ones(len(labels)) if weights is None else weights
    confidence = probabilities.max(axis=1).astype(np.float64)
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights * (confidence - (probabilities.argmax(axis=1) == labels)))
    return float(np.abs(gaps).sum() / weights.sum())


def error_auroc(wrong: NDArray[np.bool_], doubt: NDArray, weights: Weights | None = None) -> float:
    """How well (n,) `doubt` separates wrong predictions from right ones: area under the ROC curve, 0.5 is by chance.

    It is the share of pairs of a wrong and a right prediction in which the wrong one has more doubt; ties count half.
    NaN if it does not exist: no error, no right prediction, or the same doubt for every face, as the disagreement of a
    model with one stratum is. It takes a tenth of scikit-learn's time, and an interval needs it thousands of times.
    """
    weights = np.ones(len(wrong)) if weights is None else weights
    levels, level = np.unique(doubt, return_inverse=True)
    errors = np.bincount(level, weights * wrong)
    others = np.bincount(level, weights * ~wrong)
    if len(levels) < 2 or not errors.any() or not others.any():
        return math.nan
    less_doubted = np.cumsum(others) - others / 2
    return float(errors @ less_doubted / (errors.sum() * others.sum()))


def evaluate_predictions(
    probabilities: NDArray[np.float32],
    expression: Sequence[int],
    confounder: Sequence[str],
    expressions: Sequence[str],
) -> dict[str, Any]:
    """(n, E) probabilities and n labels -> figures in plain types.

    `accuracy` is pooled over images, as the average of Table 2. `mean_recall` is the mean over the expressions that
    have an image. `recall` is None for an expression without one. `ece`: see `calibration_error`. `confusion`: rows
    true, columns predicted.
    """
    labels, strata = np.asarray(expression, int), np.asarray(confounder)
    pooled = rates(probabilities, labels)
    return {
        "n": len(labels),
        "accuracy": pooled.accuracy,
        "mean_recall": pooled.mean_recall,
        "recall": by_name(pooled.recall, expressions),
        "ece": pooled.ece,
        "strata": {
            str(name): _of_stratum(probabilities[strata == name], labels[strata == name])
            for name in sorted(set(strata.tolist()))
        },
        "confusion": confusion(probabilities, labels),
        "expressions": list(expressions),
    }


def confusion(probabilities: NDArray, labels: NDArray) -> list[list[int]]:
    """(n, E) probabilities, (n,) labels -> counts: rows true, columns predicted."""
    return confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(probabilities.shape[1])).tolist()


def by_name(values: NDArray, names: Sequence[str]) -> dict[str, float | None]:
    """(E,) figures and their names -> the figures by name, None for NaN."""
    return {name: none_if_nan(value) for name, value in zip(names, values.tolist(), strict=True)}


def none_if_nan(value: float) -> float | None:
    """None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value


def _of_stratum(probabilities: NDArray, labels: NDArray) -> dict[str, Any]:
    found = rates(probabilities, labels)
    return {"n": len(labels), "accuracy": found.accuracy, "mean_recall": found.mean_recall}
