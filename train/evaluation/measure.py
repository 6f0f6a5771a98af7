"""The figures of the evaluation command, each with its interval: of all faces, and of each stratum."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iern.train.evaluation.bootstrap import intervals
from iern.train.evaluation.metrics import Weights, by_name, confusion, error_auroc, none_if_nan, rates

FEW = 30
"""A recall over fewer faces has no interval and is printed as a count, such as 5/22."""


@dataclass(frozen=True, eq=False)
class LabelledPredictions:
    """A model's predictions for n labelled faces."""

    probabilities: NDArray[np.float32]
    """(n, E), after the temperature."""
    disagreement: NDArray[np.float64]
    """(n,) See `iern.runtime.intervention.stratum_disagreement`."""
    labels: NDArray[np.int64]
    """(n,) True expression."""
    strata: NDArray[np.str_]
    """(n,) Value of the confounder."""
    units: NDArray[np.str_]
    """(n,) Unit of the bootstrap: see `bootstrap.resampling_units`."""
    confirmed: NDArray[np.bool_]
    """(n,) Whether most votes are for the label (`LabelledFace.confirmed`); False without votes."""

    def select(self, rows: NDArray[np.bool_]) -> LabelledPredictions:
        """The faces for which `rows` (n,) is true."""
        values = {field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)}
        return LabelledPredictions(**values)


class Figures(NamedTuple):
    """The figures of some faces; NaN for a figure that does not exist."""

    accuracy: float
    mean_recall: float
    ece: float
    coverage: float
    """Share of the faces that are not uncertain."""
    risk: float
    """Share of wrong predictions among those."""
    auroc_disagreement: float
    """How well the disagreement of the strata separates wrong predictions from right ones, see `error_auroc`."""
    auroc_improbability: float
    """The same for 1 - the largest probability."""
    recall: NDArray[np.float64]
    """(E,) NaN for an expression without a face."""


def measure(predictions: LabelledPredictions, expressions: Sequence[str], threshold: float = 0.0) -> dict[str, Any]:
    """-> the figures in plain types, as `evaluate.py --json` writes them. Its --help explains them."""
    return {
        **_with_intervals(predictions, expressions, threshold),
        "threshold": threshold,
        "strata": {
            name: _with_intervals(predictions.select(predictions.strata == name), expressions, threshold)
            for name in sorted(set(predictions.strata.tolist()))
        },
        "confirmed": (
            _with_intervals(predictions.select(predictions.confirmed), expressions, threshold)
            if predictions.confirmed.any()
            else None
        ),
        "confusion": confusion(predictions.probabilities, predictions.labels),
        "expressions": list(expressions),
    }


def figures(predictions: LabelledPredictions, threshold: float, weights: Weights | None = None) -> Figures:
    """The figures of the faces, each counted as often as its weight says; once without weights."""
    weights = np.ones(len(predictions.labels)) if weights is None else weights
    found = rates(predictions.probabilities, predictions.labels, weights)
    largest = predictions.probabilities.max(axis=1).astype(np.float64)
    wrong = predictions.probabilities.argmax(axis=1) != predictions.labels
    certain = weights * (largest >= threshold)
    return Figures(
        accuracy=found.accuracy,
        mean_recall=found.mean_recall,
        ece=found.ece,
        coverage=float(certain.sum() / weights.sum()),
        risk=float(certain[wrong].sum() / certain.sum()) if certain.any() else math.nan,
        auroc_disagreement=error_auroc(wrong, predictions.disagreement, weights),
        auroc_improbability=error_auroc(wrong, 1 - largest, weights),
        recall=found.recall,
    )


def _with_intervals(predictions: LabelledPredictions, expressions: Sequence[str], threshold: float) -> dict[str, Any]:
    measured = figures(predictions, threshold)

    def of_draw(weights: Weights) -> list[float]:
        values = figures(predictions, threshold, weights)
        return [*values[:-1], *values.recall]

    bounds = intervals(of_draw, predictions.units.tolist())
    single = dict(zip(Figures._fields[:-1], bounds[: -len(expressions)], strict=True))
    totals = np.bincount(predictions.labels, minlength=len(expressions))
    is_right = predictions.probabilities.argmax(axis=1) == predictions.labels
    right = np.bincount(predictions.labels[is_right], minlength=len(expressions))
    return {
        "n": len(predictions.labels),
        "units": len(set(predictions.units.tolist())),
        **{name: none_if_nan(getattr(measured, name)) for name in single},
        "recall": by_name(measured.recall, expressions),
        "counts": {name: [int(right[i]), int(totals[i])] for i, name in enumerate(expressions)},
        "intervals": {
            **single,
            "recall": {
                name: bound if total >= FEW else None
                for name, bound, total in zip(expressions, bounds[-len(expressions) :], totals, strict=True)
            },
        },
    }
