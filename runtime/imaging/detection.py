"""A face found in a frame: its box, its landmarks, its score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MEAN_FACE = np.array([[-0.19, -0.13], [0.19, -0.13], [0.0, 0.08], [-0.15, 0.24], [0.15, 0.24]])
"""(5, 2) landmarks of an upright face, in the order of `Detection.landmarks`, from the centre of its box, in units of
its longer side: the medians over the 39,000 faces of FER2013 and LFW that YuNet finds, made symmetric."""


@dataclass(frozen=True, eq=False)
class Detection:
    """One face, in pixels of the frame. The box may reach beyond the frame. Compared by identity."""

    x: float
    """Left edge."""
    y: float
    """Top edge."""
    width: float
    height: float
    landmarks: NDArray[np.float64] | None = None
    """(5, 2) x and y of the eye on the image's left, the eye on its right, nose tip, left and right mouth corner.

    None if the detector finds none: the crop then follows the box, and is not turned.
    """
    score: float = 1.0
    """The detector's confidence, 0 to 1."""

    @classmethod
    def from_row(
        cls, row: NDArray[np.float64], scale: NDArray[np.float64], corner: NDArray[np.float64] | float = 0.0
    ) -> Detection:
        """(15,) row of YuNet (box, five landmarks, score) in a part of the frame -> Detection in the frame's pixels.

        `scale` is (2,), the frame's pixels for one of the part, and `corner` (2,) the part's upper left corner in the
        frame, both x then y.
        """
        x, y = row[:2] * scale + corner
        width, height = row[2:4] * scale
        landmarks = row[4:14].reshape(5, 2) * scale + corner
        return cls(float(x), float(y), float(width), float(height), landmarks, float(row[14]))


def landmarks_of(face: Detection) -> NDArray[np.float64]:
    """(5, 2) landmarks of the face. If the detector found none: those of an upright face that has this box."""
    if face.landmarks is not None:
        return face.landmarks
    centre = np.array([face.x + face.width / 2, face.y + face.height / 2])
    return centre + max(face.width, face.height) * MEAN_FACE


def largest(faces: Iterable[Detection]) -> Detection | None:
    """Return the face with the largest box; None of none."""
    return max(faces, key=lambda face: face.width * face.height, default=None)


def intersection_over_union(a: Detection, b: Detection) -> float:
    """Return the area in both boxes over the area in either."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / max(a.width * a.height + b.width * b.height - shared, 1e-9)
