"""How far a figure might have come out otherwise with other faces: percentile bootstrap intervals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from iern.train.data import Record

REPLICATES = 1000
PERCENTILES = (2.5, 97.5)


def intervals(
    figures: Callable[[NDArray[np.float64]], Sequence[float]], units: Sequence[str], seed: int = 0
) -> NDArray[np.float64]:
    """-> (K, 2) the 95 % intervals of K figures, the same in every run.

    `figures` maps (n,) weights, how often each face was drawn, to K values, NaN where there is none. `units` names what
    is drawn, with replacement: a face, or a person, all of whose faces go together, since they are much alike. Draws
    in which a figure does not exist are left out. NaN for a figure without a draw, and for all where there is but one
    unit.
    """
    unit = np.unique(np.asarray(units), return_inverse=True)[1]
    count = int(unit.max()) + 1
    random = np.random.default_rng(seed)
    drawn = [figures(_weights(random, count)[unit]) for _ in range(REPLICATES)]
    if count < 2:
        return np.full((len(drawn[0]), 2), np.nan)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.nanpercentile(drawn, PERCENTILES, axis=0).T


def drawn_units(records: Sequence[Record]) -> list[str]:
    """What the bootstrap draws: the person a face is of, or where that is not known the image for itself."""
    return [f"subject {record.subject}" if record.subject else f"image {record.path}" for record in records]


def _weights(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """(count,) how often each of `count` units is drawn in as many draws."""
    return np.bincount(random.integers(count, size=count), minlength=count).astype(np.float64)
