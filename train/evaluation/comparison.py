"""Two models on the same faces: what each gets right alone, and whether the difference may be chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iern.train.evaluation.bootstrap import intervals_of, replicates
from iern.train.evaluation.measure import LabelledPredictions
from iern.train.evaluation.metrics import Weights, rates

COMPARED = ("accuracy", "mean_recall", "macro_f1")
"""The figures whose difference is reported."""


def compare(first: LabelledPredictions, second: LabelledPredictions) -> dict[str, Any]:
    """The predictions of two models for the same n faces, in order -> their paired figures in plain types.

    A difference is the first model's figure minus the second's. Its interval and p value are of draws in which both
    models have the same people, or the same images if the people are not known. `evaluate.py --help` explains the keys.
    """

    def differences(weights: Weights | None = None) -> list[float]:
        one, other = (rates(each.probabilities, first.labels, weights) for each in (first, second))
        return [getattr(one, name) - getattr(other, name) for name in COMPARED]

    draws = replicates(differences, first.units.tolist())
    right = [each.probabilities.argmax(axis=1) == first.labels for each in (first, second)]
    first_alone, second_alone = (int((right[i] & ~right[1 - i]).sum()) for i in (0, 1))
    return {
        "n": len(first.labels),
        "units": len(set(first.units.tolist())),
        "both_right": int((right[0] & right[1]).sum()),
        "first_alone_right": first_alone,
        "second_alone_right": second_alone,
        "both_wrong": int((~right[0] & ~right[1]).sum()),
        "mcnemar_p": mcnemar(first_alone, second_alone),
        "difference": dict(zip(COMPARED, differences(), strict=True)),
        "intervals": dict(zip(COMPARED, intervals_of(draws), strict=True)),
        "bootstrap_p": dict(zip(COMPARED, map(bootstrap_p, draws.T), strict=True)),
    }


def mcnemar(first_alone: int, second_alone: int) -> float:
    """The exact p value of McNemar's test, two-sided: were both models equally often right alone, by a fair coin.

    It counts faces, and so it takes them for independent; for several faces of one person it is too small.
    """
    total, smaller = first_alone + second_alone, min(first_alone, second_alone)
    term, tail = 1, 0  # term: the binomial coefficient (total over k)
    for k in range(smaller + 1):
        tail += term
        term = term * (total - k) // (k + 1)
    return min(1.0, 2 * tail / 2**total)


def bootstrap_p(draws: NDArray[np.float64]) -> float | None:
    """(replicates,) drawn differences -> the two-sided p value of no difference; None if there are none.

    It is twice the share of draws on the rarer side of 0, where a draw at 0 is on both sides, and one draw is added to
    each side, so that it is never 0.
    """
    found = draws[~np.isnan(draws)]
    if not len(found):
        return None
    rarer = min(int((found <= 0).sum()), int((found >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(found) + 1))
