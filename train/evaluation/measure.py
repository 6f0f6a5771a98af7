"""The figures of the evaluation command, each with its interval: of all faces, and of each stratum."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iern.train.evaluation.bootstrap import intervals, intervals_of, replicates
from iern.train.evaluation.metrics import Weights, by_name, confusion, error_auroc, none_if_nan, rates

FEW = 30
"""The figures of an expression of fewer faces have no interval, and its recall is printed as a count, such as 5/22."""

BY_EXPRESSION = ("recall", "precision", "f1")
"""The figures that each expression has by itself."""
AVERAGED = ("accuracy", "mean_recall", "macro_f1", "coverage", "risk")
"""The figures whose mean over the sets is reported."""


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
    macro_f1: float
    """See `iern.train.evaluation.metrics.Rates`."""
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
    precision: NDArray[np.float64]
    """(E,) NaN for an expression that is never predicted."""
    f1: NDArray[np.float64]
    """(E,) NaN for an expression without a face."""


def measure(predictions: LabelledPredictions, expressions: Sequence[str], threshold: float = 0.0) -> dict[str, Any]:
    """-> the figures in plain types, as `evaluate.py --json` writes them. Its --help explains them."""
    sets = {name: predictions.select(predictions.strata == name) for name in sorted(set(predictions.strata.tolist()))}
    return {
        **_with_intervals(predictions, expressions, threshold),
        "threshold": threshold,
        "strata": {name: _with_intervals(own, expressions, threshold) for name, own in sets.items()},
        "mean_over_sets": _mean_over_sets(list(sets.values()), threshold),
        "confirmed": (
            _with_intervals(predictions.select(predictions.confirmed), expressions, threshold)
            if predictions.confirmed.any()
            else None
        ),
        "confusion": confusion(predictions.probabilities, predictions.labels),
        "expressions": list(expressions),
    }


def measure_missed(
    right: NDArray[np.bool_], found: NDArray[np.bool_], strata: NDArray[np.str_], units: NDArray[np.str_]
) -> dict[str, Any]:
    """How many of n pictures have no face, and the accuracy if they count as wrong: of all, and of each stratum.

    `right` (n,) is whether the prediction is right, False without a face; `found` (n,) is whether there is a face.
    `strata` and `units`: see LabelledPredictions.
    """

    def of(rows: NDArray[np.bool_]) -> dict[str, Any]:
        own = right[rows]
        (interval,) = intervals(lambda weights: [weights @ own / weights.sum()], units[rows].tolist())
        return {
            "n": int((~found[rows]).sum()),
            "pictures": len(own),
            "accuracy_of_all": float(own.mean()),
            "intervals": {"accuracy_of_all": interval},
        }

    by_stratum = {name: of(strata == name) for name in sorted(set(strata.tolist()))}
    return {**of(np.ones(len(found), bool)), "strata": by_stratum}


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
        macro_f1=found.macro_f1,
        ece=found.ece,
        coverage=float(certain.sum() / weights.sum()),
        risk=float(certain[wrong].sum() / certain.sum()) if certain.any() else math.nan,
        auroc_disagreement=error_auroc(wrong, predictions.disagreement, weights),
        auroc_improbability=error_auroc(wrong, 1 - largest, weights),
        recall=found.recall,
        precision=found.precision,
        f1=found.f1,
    )


def _with_intervals(predictions: LabelledPredictions, expressions: Sequence[str], threshold: float) -> dict[str, Any]:
    measured = figures(predictions, threshold)
    names = [name for name in Figures._fields if name not in BY_EXPRESSION]

    def of_draw(weights: Weights) -> list[float]:
        values = figures(predictions, threshold, weights)
        single = [getattr(values, name) for name in names]
        return [*single, *np.concatenate([getattr(values, name) for name in BY_EXPRESSION])]

    bounds = intervals(of_draw, predictions.units.tolist())
    totals = np.bincount(predictions.labels, minlength=len(expressions))
    is_right = predictions.probabilities.argmax(axis=1) == predictions.labels
    right = np.bincount(predictions.labels[is_right], minlength=len(expressions))
    return {
        "n": len(predictions.labels),
        "units": len(set(predictions.units.tolist())),
        **{name: none_if_nan(getattr(measured, name)) for name in names},
        **{name: by_name(getattr(measured, name), expressions) for name in BY_EXPRESSION},
        "counts": {name: [int(right[i]), int(totals[i])] for i, name in enumerate(expressions)},
        "intervals": {
            **dict(zip(names, bounds[: len(names)], strict=True)),
            **{
                name: {
                    expression: bounds[len(names) + row * len(expressions) + i] if totals[i] >= FEW else None
                    for i, expression in enumerate(expressions)
                }
                for row, name in enumerate(BY_EXPRESSION)
            },
        },
    }


def _mean_over_sets(sets: Sequence[LabelledPredictions], threshold: float) -> dict[str, Any]:
    """The mean of each of AVERAGED over the sets, which count alike; None if a set lacks the figure.

    For the intervals each set is drawn by itself.
    """

    def of_set(own: LabelledPredictions, weights: Weights | None = None) -> list[float]:
        found = figures(own, threshold, weights)
        return [getattr(found, name) for name in AVERAGED]

    # A seed for each set: with the same draws in all, sets in the same order would vary together.
    draws = [replicates(partial(of_set, own), own.units.tolist(), seed) for seed, own in enumerate(sets, start=1)]
    means = np.mean([of_set(own) for own in sets], axis=0)
    bounds = intervals_of(np.mean(draws, axis=0))
    return {**by_name(means, AVERAGED), "intervals": dict(zip(AVERAGED, bounds, strict=True))}
