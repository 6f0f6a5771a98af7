"""Bootstrap intervals of means: of seeds, or of faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
AT_ONCE = 4_000_000
"""Values drawn together: 32 MB."""


class Interval(NamedTuple):
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1%} [{self.low:.1%}, {self.high:.1%}]"


def interval(values: ArrayLike) -> Interval:
    """Mean of the values, resampled with replacement."""
    sample = np.asarray(values, float)
    return _interval(float(sample.mean()), _resampled_means(sample, np.random.default_rng(0)))


def balanced_interval(values: ArrayLike, groups: ArrayLike) -> Interval:
    """Mean over the groups of the means within them, each group resampled for itself."""
    sample, names = np.asarray(values, float), np.asarray(groups)
    rng = np.random.default_rng(0)
    parts = [sample[names == name] for name in np.unique(names)]
    return _interval(
        float(np.mean([part.mean() for part in parts])),
        np.mean([_resampled_means(part, rng) for part in parts], axis=0),
    )


def _resampled_means(sample: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(n,) -> (RESAMPLES,) means of n draws."""
    step = max(1, AT_ONCE // len(sample))
    counts = [min(step, RESAMPLES - start) for start in range(0, RESAMPLES, step)]
    return np.concatenate([rng.choice(sample, (count, len(sample))).mean(axis=1) for count in counts])


def _interval(mean: float, means: Sequence[float] | NDArray[np.float64]) -> Interval:
    return Interval(mean, float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975)))
