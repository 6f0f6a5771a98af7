"""Percentile bootstrap: 95 % intervals of a figure, had it been measured on other faces.

Every function draws from a fixed seed, so the same faces give the same interval in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iern.train.data.manifest import LabelledFace

REPLICATES = 1000
"""Draws of `intervals`."""
MEAN_REPLICATES = 10_000
"""Draws of `mean_interval`, which costs less a draw."""
UNIT_REPLICATES = 2000
"""Draws of `resampled_means`."""
PERCENTILES = (2.5, 97.5)
VALUES_AT_ONCE = 4_000_000
"""Largest number of values in one array of draws: 32 MB."""
UNIT_DRAWS_AT_ONCE = 100

Bounds = list[float]
"""Low, high."""


class MeanInterval(NamedTuple):
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1%} [{self.low:.1%}, {self.high:.1%}]"


def intervals(
    figures: Callable[[NDArray[np.float64]], Sequence[float]], units: Sequence[str], seed: int = 0
) -> list[Bounds | None]:
    """Any K figures of n faces -> their 95 % intervals, from `replicates`, which explains the arguments.

    Draws in which a figure does not exist are left out. A figure that exists in no draw has the interval None, and so
    have all figures of a single unit.
    """
    return intervals_of(replicates(figures, units, seed))


def replicates(
    figures: Callable[[NDArray[np.float64]], Sequence[float]], units: Sequence[str], seed: int = 0
) -> NDArray[np.float64]:
    """Any K figures of n faces -> (REPLICATES, K) their values for faces drawn with replacement.

    `figures` maps (n,) weights to K values; a weight is the number of times a face was drawn, and NaN is a figure that
    does not exist. `units` gives the unit of each face. Units are drawn with replacement: a unit is a face, or a person
    with all of their faces, since these are much alike. A single unit says nothing about others: its values are NaN.
    """
    unit = np.unique(np.asarray(units), return_inverse=True)[1]
    count = int(unit.max()) + 1
    parts = _draws(np.random.default_rng(seed), count, REPLICATES)
    values = np.array([figures(_weights(draw, count)[unit]) for part in parts for draw in part])
    return values if count > 1 else np.full_like(values, np.nan)


def intervals_of(values: NDArray[np.float64]) -> list[Bounds | None]:
    """(replicates, K) values of K figures -> their 95 % intervals; NaN is left out, None if nothing else is there."""
    return [_bounds_if_any(column[~np.isnan(column)]) for column in values.T]


def mean_interval(values: ArrayLike) -> MeanInterval:
    """(n,) values -> the interval of their mean."""
    sample = np.asarray(values, float)
    return MeanInterval(float(sample.mean()), *bounds(_means_of_draws(sample, np.random.default_rng(0))))


def balanced_mean_interval(values: ArrayLike, groups: ArrayLike) -> MeanInterval:
    """(n,) values and their groups -> the interval of the mean of the groups' means; each group is drawn by itself."""
    sample, names = np.asarray(values, float), np.asarray(groups)
    random = np.random.default_rng(0)
    parts = [sample[names == name] for name in np.unique(names)]
    means = np.mean([_means_of_draws(part, random) for part in parts], axis=0)
    return MeanInterval(float(np.mean([part.mean() for part in parts])), *bounds(means))


def resampled_means(values: NDArray, units: Sequence[str], replicates: int = UNIT_REPLICATES) -> NDArray[np.float64]:
    """(n, ...) values and the unit of each -> (replicates, ...) means over units drawn with replacement.

    The same draws serve all values of a face, so that differences between them are paired.
    """
    names, unit = np.unique(np.asarray(units), return_inverse=True)
    sums = np.zeros((len(names), values[0].size + 1))
    np.add.at(sums, unit, np.column_stack([values.reshape(len(values), -1), np.ones(len(values))]))
    random = np.random.default_rng(0)
    even = np.full(len(names), 1 / len(names))
    # Multinomial counts, since one matrix product then sums all values of a chunk of draws.
    totals = np.concatenate(
        [random.multinomial(len(names), even, size) @ sums for size in _chunks(replicates, UNIT_DRAWS_AT_ONCE)]
    )
    return (totals[:, :-1] / totals[:, -1:]).reshape(replicates, *values.shape[1:])


def bounds(samples: NDArray[np.float64]) -> Bounds:
    """(replicates,) values of a figure -> its 95 % interval."""
    return np.percentile(samples, PERCENTILES).tolist()


def resampling_units(faces: Sequence[LabelledFace]) -> list[str]:
    """The unit of each face: the person, or the image if the person is not known."""
    return [f"subject {face.subject}" if face.subject else f"image {face.path}" for face in faces]


def _bounds_if_any(samples: NDArray[np.float64]) -> Bounds | None:
    return bounds(samples) if len(samples) else None


def _means_of_draws(sample: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """(n,) -> (MEAN_REPLICATES,) means of n values drawn with replacement."""
    draws = _draws(random, len(sample), MEAN_REPLICATES)
    return np.concatenate([sample[part].mean(axis=1) for part in draws])


def _draws(random: np.random.Generator, count: int, replicates: int) -> Iterator[NDArray[np.int64]]:
    """(k, count) indices of units drawn with replacement, a row a replicate, in parts of `replicates` rows in all."""
    for size in _chunks(replicates, max(1, VALUES_AT_ONCE // count)):
        yield random.integers(count, size=(size, count))


def _weights(draw: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """(count,) number of times that each unit was drawn."""
    return np.bincount(draw, minlength=count).astype(np.float64)


def _chunks(total: int, at_most: int) -> list[int]:
    """Sizes of at most `at_most` that sum to `total`."""
    return [min(at_most, total - start) for start in range(0, total, at_most)]
