"""How far a figure might have come out otherwise with other faces: percentile bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from iern.train.data.manifest import LabelledFace

REPLICATES = 1000
PERCENTILES = (2.5, 97.5)

Interval = list[float]
"""Low, high."""


def intervals(
    figures: Callable[[NDArray[np.float64]], Sequence[float]], units: Sequence[str], seed: int = 0
) -> list[Interval | None]:
    """-> the 95 % intervals of K figures, the same in every run.

    `figures` maps (n,) weights, how often each face was drawn, to K values, NaN where there is none. `units` names what
    is drawn, with replacement: a face, or a person, all of whose faces go together, since they are much alike. Draws
    in which a figure does not exist are left out. None for a figure that exists in no draw, and for all where there is
    but one unit.
    """
    unit = np.unique(np.asarray(units), return_inverse=True)[1]
    count = int(unit.max()) + 1
    random = np.random.default_rng(seed)
    drawn = np.array([figures(_weights(random, count)[unit]) for _ in range(REPLICATES)])
    return [_interval(values[~np.isnan(values)]) if count > 1 else None for values in drawn.T]


def drawn_units(records: Sequence[LabelledFace]) -> list[str]:
    """What the bootstrap draws: the person a face is of, or where that is not known the image for itself."""
    return [f"subject {record.subject}" if record.subject else f"image {record.path}" for record in records]


def _interval(values: NDArray[np.float64]) -> Interval | None:
    return np.percentile(values, PERCENTILES).tolist() if len(values) else None


def _weights(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """(count,) how often each of `count` units is drawn in as many draws."""
    return np.bincount(random.integers(count, size=count), minlength=count).astype(np.float64)
