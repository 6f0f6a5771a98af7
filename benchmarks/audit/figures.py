"""What the answers of an audit come to: accuracy, flips, shift and what foretells errors, with paired intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.audit.answers import VariationAnswers
from benchmarks.audit.changes import Change
from iern.train.evaluation.metrics import error_auroc

RESAMPLES = 2000
CHUNK = 100
RATES = ("accuracy", "flip_rate")


def figures(
    answers: Sequence[VariationAnswers], labels: NDArray[np.int64], units: Sequence[str], changes: Sequence[Change]
) -> list[dict[str, Any]]:
    """Answers of each model about the same n faces, their expressions and whom they show -> `grades` and `overall`.

    Faces of one unit are drawn together in the bootstrap; one drawing serves all models, so that their differences
    from the first are paired. Plain types, as the command's help describes them.
    """
    outcomes = np.stack([_outcomes(each, labels) for each in answers])  # (M, 2, V, n)
    drawn = resampled_means(np.moveaxis(outcomes, -1, 0), units)  # (R, M, 2, V)
    means = outcomes.mean(axis=-1)
    results = []
    for model, each in enumerate(answers):
        cells = [
            {
                **_intervals(means, drawn, model, [row]),
                "shift": float(np.mean(total_variation(each.probabilities[row], each.probabilities[0]))),
                "disagreement": float(each.disagreement[row].mean()),
                "auroc": foretold(each, labels, row),
            }
            for row in range(len(each.probabilities))
        ]
        rest = iter(cells[1:])
        grades = {change.name: [cells[0], *(next(rest) for _ in change.amounts)] for change in changes}
        overall = _intervals(means, drawn, model, range(1, len(cells)))
        results.append({"overall": overall, "grades": grades})
    return results


def resampled_means(values: NDArray, units: Sequence[str], resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """(n, ...) values, and the unit of each of the n -> (resamples, ...) means over units drawn with replacement."""
    names, unit = np.unique(np.asarray(units), return_inverse=True)
    sums = np.zeros((len(names), values[0].size + 1))
    np.add.at(sums, unit, np.column_stack([values.reshape(len(values), -1), np.ones(len(values))]))
    random = np.random.default_rng(0)
    even = np.full(len(names), 1 / len(names))
    totals = np.concatenate(
        [
            random.multinomial(len(names), even, min(CHUNK, resamples - done)) @ sums
            for done in range(0, resamples, CHUNK)
        ]
    )
    return (totals[:, :-1] / totals[:, -1:]).reshape(resamples, *values.shape[1:])


def total_variation(left: NDArray, right: NDArray) -> NDArray[np.float64]:
    """(n, E) and (n, E) probabilities -> (n,): half the sum of the absolute differences, 0 to 1."""
    return np.abs(left.astype(np.float64) - right).sum(axis=-1) / 2


def foretold(answers: VariationAnswers, labels: NDArray[np.int64], row: int) -> dict[str, float | None]:
    """How well a variation's errors are foretold: the chance that a wrong answer scores above a right one.

    None where all answers are right, all are wrong, or all score alike, as the disagreement of one stratum does.
    """
    probabilities = answers.probabilities[row]
    wrong = probabilities.argmax(axis=-1) != labels
    scores = {"disagreement": answers.disagreement[row], "uncertainty": 1 - probabilities.max(axis=-1)}
    found = {name: error_auroc(wrong, score) for name, score in scores.items()}
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def _outcomes(answers: VariationAnswers, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(2, V, n): whether the answer is right, and whether it is another than on the unchanged face."""
    first = answers.probabilities.argmax(axis=-1)
    return np.stack([first == labels, first != first[0]]).astype(np.float64)


def _intervals(means: NDArray, drawn: NDArray, model: int, rows: Sequence[int]) -> dict[str, Any]:
    """Both rates of a model, averaged over some variations, and behind the first model their difference from its."""
    found, samples = means[..., rows].mean(axis=-1), drawn[..., rows].mean(axis=-1)
    cell: dict[str, Any] = {
        name: interval(found[model, rate], samples[:, model, rate]) for rate, name in enumerate(RATES)
    }
    if model > 0:
        cell["minus_first"] = {
            name: interval(found[model, rate] - found[0, rate], samples[:, model, rate] - samples[:, 0, rate])
            for rate, name in enumerate(RATES)
        }
    return cell


def interval(value: float, samples: NDArray[np.float64]) -> dict[str, float]:
    """A figure with the 2.5 % and 97.5 % quantiles of its resamples."""
    low, high = np.quantile(samples, (0.025, 0.975))
    return {"value": float(value), "low": float(low), "high": float(high)}
