"""What the evaluation command finds out about a model's answers: every figure with its interval, per stratum too."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iern.train.evaluation.bootstrap import intervals
from iern.train.evaluation.metrics import Weights, confusion, defined, error_auroc, named, rates

FEW = 30
"""A recall over fewer faces is a count, not a rate: it has no interval, and is shown as 5/22."""


@dataclass(frozen=True, eq=False)
class LabelledPredictions:
    """n labelled faces, and what a model says about them."""

    probabilities: NDArray[np.float32]
    """(n, E), after the temperature."""
    disagreement: NDArray[np.float64]
    """(n,), see `iern.runtime.intervention.stratum_disagreement`."""
    labels: NDArray[np.int64]
    """(n,) true expression."""
    strata: NDArray[np.str_]
    """(n,) the confounder's value."""
    units: NDArray[np.str_]
    """(n,) whose face it is, or where that is not known its own name: what the bootstrap draws."""
    confirmed: NDArray[np.bool_]
    """(n,) Whether most voters are for the label (`Record.confirmed`); False if nobody voted."""

    def of(self, own: NDArray[np.bool_]) -> LabelledPredictions:
        """Those for which `own` (n,) is true."""
        return LabelledPredictions(**{field.name: getattr(self, field.name)[own] for field in dataclasses.fields(self)})


class Figures(NamedTuple):
    """The figures of some faces; NaN where there is none."""

    accuracy: float
    mean_recall: float
    ece: float
    coverage: float
    """Share of the faces that are not uncertain."""
    risk: float
    """Share of wrong answers among those."""
    auroc_disagreement: float
    """How well the strata's disagreement tells wrong answers, see `error_auroc`."""
    auroc_improbability: float
    """The same of 1 - the largest probability."""
    recall: NDArray[np.float64]
    """(E,)."""


def measure(judged: LabelledPredictions, expressions: Sequence[str], threshold: float = 0.0) -> dict[str, Any]:
    """Figures in plain types, as `evaluate.py --json` writes them and its --help explains them."""
    return {
        **_measured(judged, expressions, threshold),
        "threshold": threshold,
        "strata": {
            name: _measured(judged.of(judged.strata == name), expressions, threshold)
            for name in sorted(set(judged.strata.tolist()))
        },
        "confirmed": (
            _measured(judged.of(judged.confirmed), expressions, threshold) if judged.confirmed.any() else None
        ),
        "confusion": confusion(judged.probabilities, judged.labels),
        "expressions": list(expressions),
    }


def figures(judged: LabelledPredictions, threshold: float, weights: Weights | None = None) -> Figures:
    """The figures with each face counted as its weight says."""
    weights = np.ones(len(judged.labels)) if weights is None else weights
    found = rates(judged.probabilities, judged.labels, weights)
    largest = judged.probabilities.max(axis=1).astype(np.float64)
    wrong = judged.probabilities.argmax(axis=1) != judged.labels
    answered = weights * (largest >= threshold)
    return Figures(
        accuracy=found.accuracy,
        mean_recall=found.mean_recall,
        ece=found.ece,
        coverage=float(answered.sum() / weights.sum()),
        risk=float(answered[wrong].sum() / answered.sum()) if answered.any() else math.nan,
        auroc_disagreement=error_auroc(wrong, judged.disagreement, weights),
        auroc_improbability=error_auroc(wrong, 1 - largest, weights),
        recall=found.recall,
    )


def _measured(judged: LabelledPredictions, expressions: Sequence[str], threshold: float) -> dict[str, Any]:
    found = figures(judged, threshold)

    def drawn(weights: Weights) -> list[float]:
        values = figures(judged, threshold, weights)
        return [*values[:-1], *values.recall]

    bounds = intervals(drawn, judged.units.tolist())
    single = dict(zip(Figures._fields[:-1], bounds[: -len(expressions)], strict=True))
    totals = np.bincount(judged.labels, minlength=len(expressions))
    right = np.bincount(judged.labels[judged.probabilities.argmax(axis=1) == judged.labels], minlength=len(expressions))
    return {
        "n": len(judged.labels),
        "units": len(set(judged.units.tolist())),
        **{name: defined(getattr(found, name)) for name in single},
        "recall": named(found.recall, expressions),
        "counts": {name: [int(right[i]), int(totals[i])] for i, name in enumerate(expressions)},
        "intervals": {
            **single,
            "recall": {
                name: bound if total >= FEW else None
                for name, bound, total in zip(expressions, bounds[-len(expressions) :], totals, strict=True)
            },
        },
    }
