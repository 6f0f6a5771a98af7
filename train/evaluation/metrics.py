"""What an evaluation reports: accuracy, recalls, calibration and confusion, pooled and per stratum.

Every figure takes weights, how often each face counts: all once for the figure itself, and as they were drawn for its
bootstrap interval (`iern.train.evaluation.bootstrap`).
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
"""(n,), how often each face counts."""


class Rates(NamedTuple):
    """How often a model is right, and whether it knows."""

    accuracy: float
    mean_recall: float
    """The mean over the expressions that there are."""
    ece: float
    recall: NDArray[np.float64]
    """(E,), NaN for an expression without a face."""


def rates(probabilities: NDArray, labels: NDArray, weights: Weights | None = None) -> Rates:
    """(n, E) probabilities and (n,) labels of at least one face."""
    weights = np.ones(len(labels)) if weights is None else weights
    right, classes = weights * (probabilities.argmax(axis=1) == labels), probabilities.shape[1]
    with np.errstate(invalid="ignore"):
        recall = np.bincount(labels, right, classes) / np.bincount(labels, weights, classes)
    return Rates(
        accuracy=float(right.sum() / weights.sum()),
        mean_recall=float(np.nanmean(recall)),
        ece=calibration_error(probabilities, labels, weights),
        recall=recall,
    )


def calibration_error(probabilities: NDArray, labels: NDArray, weights: Weights | None = None) -> float:
    """Expected calibration error: the gap between largest probability and accuracy, over 15 bins of equal width."""
    weights = np.ones(len(labels)) if weights is None else weights
    confidence = probabilities.max(axis=1).astype(np.float64)
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights * (confidence - (probabilities.argmax(axis=1) == labels)))
    return float(np.abs(gaps).sum() / weights.sum())


def error_auroc(wrong: NDArray[np.bool_], doubt: NDArray, weights: Weights | None = None) -> float:
    """How well (n,) `doubt` tells the faces that are answered wrongly: area under the ROC curve, 0.5 for not at all.

    The share of pairs of a wrong and a right answer in which the wrong one is doubted more, ties counting half. NaN
    where there is nothing to tell apart: no error, no right answer, or the same doubt about every face, as that of a
    model with one stratum is. A tenth of scikit-learn's time, since intervals ask for it thousands of times.
    """
    weights = np.ones(len(wrong)) if weights is None else weights
    levels, level = np.unique(doubt, return_inverse=True)
    errors = np.bincount(level, weights * wrong)
    others = np.bincount(level, weights * ~wrong)
    if len(levels) < 2 or not errors.any() or not others.any():
        return math.nan
    less_doubted = np.cumsum(others) - others / 2
    return float(errors @ less_doubted / (errors.sum() * others.sum()))


def evaluate_answers(
    probabilities: NDArray[np.float32],
    expression: Sequence[int],
    confounder: Sequence[str],
    expressions: Sequence[str],
) -> dict[str, Any]:
    """(n, E) probabilities and n labels -> figures in plain types.

    `accuracy` is pooled over images and `mean_recall` is the mean over the expressions present, as the two differ under
    imbalance (Table 2's average is the first). `recall` is None for an expression without an image. `ece`: expected
    calibration error, 15 bins of equal width. `confusion`: rows true, columns answered.
    """
    labels, strata = np.asarray(expression, int), np.asarray(confounder)
    pooled = rates(probabilities, labels)
    return {
        "n": len(labels),
        "accuracy": pooled.accuracy,
        "mean_recall": pooled.mean_recall,
        "recall": named(pooled.recall, expressions),
        "ece": pooled.ece,
        "strata": {
            str(name): _of_stratum(probabilities[strata == name], labels[strata == name])
            for name in sorted(set(strata.tolist()))
        },
        "confusion": confusion(probabilities, labels),
        "expressions": list(expressions),
    }


def confusion(probabilities: NDArray, labels: NDArray) -> list[list[int]]:
    """Counts: rows true, columns answered."""
    return confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(probabilities.shape[1])).tolist()


def named(values: NDArray, names: Sequence[str]) -> dict[str, float | None]:
    """(E,) figures by name, None where there is none."""
    return {name: defined(value) for name, value in zip(names, values.tolist(), strict=True)}


def defined(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value


def _of_stratum(probabilities: NDArray, labels: NDArray) -> dict[str, Any]:
    found = rates(probabilities, labels)
    return {"n": len(labels), "accuracy": found.accuracy, "mean_recall": found.mean_recall}
