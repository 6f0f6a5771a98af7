"""The figures of an audit: accuracy, flips, shift and AUROC of errors, with paired intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iern.audit.answers import VariationAnswers
from iern.audit.changes import Change
from iern.train.evaluation.bootstrap import bounds, resampled_means
from iern.train.evaluation.metrics import error_auroc

RATES = ("accuracy", "flip_rate")


def figures(
    answers: Sequence[VariationAnswers], labels: NDArray[np.int64], units: Sequence[str], changes: Sequence[Change]
) -> list[dict[str, Any]]:
    """`grades` and `overall` of each model, from its predictions for the same n faces, their expressions and units.

    The bootstrap draws the faces of one unit together. All models share one drawing, so that their differences from
    the first model are paired. Returns plain types; the command's help describes them.
    """
    outcomes = np.stack([_outcomes(each, labels) for each in answers])  # (M, 2, V, n)
    drawn = resampled_means(np.moveaxis(outcomes, -1, 0), units)  # (R, M, 2, V)
    means = outcomes.mean(axis=-1)
    results = []
    for model, each in enumerate(answers):
        cells = [
            {
                **_rates(means, drawn, model, [row]),
                "shift": float(np.mean(total_variation(each.probabilities[row], each.probabilities[0]))),
                "disagreement": float(each.disagreement[row].mean()),
                "auroc": error_aurocs(each, labels, row),
            }
            for row in range(len(each.probabilities))
        ]
        rest = iter(cells[1:])
        grades = {change.name: [cells[0], *(next(rest) for _ in change.amounts)] for change in changes}
        overall = _rates(means, drawn, model, range(1, len(cells)))
        results.append({"overall": overall, "grades": grades})
    return results


def total_variation(left: NDArray, right: NDArray) -> NDArray[np.float64]:
    """(n, E) and (n, E) probabilities -> (n,): half the sum of the absolute differences, 0 to 1."""
    return np.abs(left.astype(np.float64) - right).sum(axis=-1) / 2


def error_aurocs(answers: VariationAnswers, labels: NDArray[np.int64], row: int) -> dict[str, float | None]:
    """How well two scores predict a variation's errors: the chance that a wrong prediction scores above a right one.

    None if all predictions are right, all are wrong, or all score alike, as the disagreement of one stratum does.
    """
    probabilities = answers.probabilities[row]
    wrong = probabilities.argmax(axis=-1) != labels
    scores = {"disagreement": answers.disagreement[row], "uncertainty": 1 - probabilities.max(axis=-1)}
    found = {name: error_auroc(wrong, score) for name, score in scores.items()}
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def _outcomes(answers: VariationAnswers, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(2, V, n): whether the expression is right, and whether it differs from that of the unchanged face."""
    first = answers.probabilities.argmax(axis=-1)
    return np.stack([first == labels, first != first[0]]).astype(np.float64)


def _rates(means: NDArray, drawn: NDArray, model: int, rows: Sequence[int]) -> dict[str, Any]:
    """Both rates of a model, averaged over some variations, and their difference from the first model's."""
    found, samples = means[..., rows].mean(axis=-1), drawn[..., rows].mean(axis=-1)
    cell: dict[str, Any] = {
        name: with_interval(found[model, rate], samples[:, model, rate]) for rate, name in enumerate(RATES)
    }
    if model > 0:
        cell["minus_first"] = {
            name: with_interval(found[model, rate] - found[0, rate], samples[:, model, rate] - samples[:, 0, rate])
            for rate, name in enumerate(RATES)
        }
    return cell


def with_interval(value: float, samples: NDArray[np.float64]) -> dict[str, float]:
    """A figure with the 2.5 % and 97.5 % quantiles of its resamples."""
    low, high = bounds(samples)
    return {"value": float(value), "low": low, "high": high}
