"""A face found in a frame: its box, its landmarks, its score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Detection:
    """One face, in pixels of the frame. The box may reach beyond the frame. Compared by identity."""

    x: float
    """Left edge."""
    y: float
    """Top edge."""
    width: float
    height: float
    landmarks: NDArray[np.float64]
    """(5, 2) x and y of the eye on the image's left, the eye on its right, nose tip, left and right mouth corner."""
    score: float
    """The detector's confidence, 0 to 1."""


def largest(faces: Iterable[Detection]) -> Detection | None:
    """Return the face with the largest box; None of none."""
    return max(faces, key=lambda face: face.width * face.height, default=None)
