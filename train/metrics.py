"""What an evaluation reports: accuracy, recalls, calibration and confusion, pooled and per stratum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix
from torchmetrics.functional.classification import multiclass_calibration_error

CALIBRATION_BINS = 15


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
    labels, answers = np.asarray(expression, int), probabilities.argmax(axis=1)
    strata = np.asarray(confounder)
    return {
        **_rates(labels, answers, expressions),
        "ece": float(
            multiclass_calibration_error(
                torch.from_numpy(probabilities), torch.from_numpy(labels), len(expressions), n_bins=CALIBRATION_BINS
            )
        ),
        "strata": {
            str(name): {
                key: value
                for key, value in _rates(labels[strata == name], answers[strata == name], expressions).items()
                if key in ("n", "accuracy", "mean_recall")
            }
            for name in sorted(set(strata.tolist()))
        },
        "confusion": _confusion(labels, answers, len(expressions)).tolist(),
        "expressions": list(expressions),
    }


def _rates(labels: NDArray, answers: NDArray, expressions: Sequence[str]) -> dict[str, Any]:
    confusion = _confusion(labels, answers, len(expressions))
    totals = confusion.sum(axis=1)
    recall = {name: float(confusion[i, i] / totals[i]) if totals[i] else None for i, name in enumerate(expressions)}
    present = [value for value in recall.values() if value is not None]
    return {
        "n": len(labels),
        "accuracy": float(np.mean(labels == answers)),
        "mean_recall": float(np.mean(present)),
        "recall": recall,
    }


def _confusion(labels: NDArray, answers: NDArray, classes: int) -> NDArray[np.int64]:
    return confusion_matrix(labels, answers, labels=range(classes))
