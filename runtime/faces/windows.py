"""Square windows of a frame, each around one face, at the size at which YuNet sees that face best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import Image

SIDE = 160
"""Side, in pixels, of the copy of a window that YuNet gets. A multiple of its largest stride."""

SURROUNDINGS = 2.0
"""Side of a window, as a multiple of the longer side of the face. The face may move by half of its size before it
leaves the window. In the copy it has 80 pixels. With narrower windows or smaller copies, YuNet misses more faces."""

GRAIN = 8
"""Sides of windows are multiples of this many pixels, so that they can be halved several times."""

LARGEST_SIZE_RATIO = 1.6
"""Two boxes of one face, one frame apart, differ in size by no more than this factor."""


@dataclass(frozen=True)
class Window:
    """A square of a frame, in whole pixels. It may reach beyond the frame, where it is black."""

    x: int
    """Left edge."""
    y: int
    """Top edge."""
    side: int

    def holds(self, face: Detection) -> bool:
        """Whether the whole box is inside. A box that reaches the edge may be of a part of a face."""
        right, bottom = face.x + face.width, face.y + face.height
        return self.x < face.x and self.y < face.y and right < self.x + self.side and bottom < self.y + self.side


def window_around(face: Detection) -> Window:
    """Return the window with the face in its middle."""
    side = GRAIN * max(1, round(SURROUNDINGS * max(face.width, face.height) / GRAIN))
    return Window(round(face.x + (face.width - side) / 2), round(face.y + (face.height - side) / 2), side)


def cut_window(frame: Image, window: Window) -> Image:
    """(H, W, 3) frame -> (SIDE, SIDE, 3) copy of the window. Beyond the frame it is black, as YuNet's padding is."""
    height, width = frame.shape[:2]
    above, left = max(0, -window.y), max(0, -window.x)
    below, right = max(0, window.y + window.side - height), max(0, window.x + window.side - width)
    part = frame[max(0, window.y) : max(0, window.y + window.side), max(0, window.x) : max(0, window.x + window.side)]
    if part.size == 0:
        return np.zeros((SIDE, SIDE, 3), np.uint8)
    if above or below or left or right:
        part = cv2.copyMakeBorder(part, above, below, left, right, cv2.BORDER_CONSTANT)
    # To halve and then interpolate costs a tenth of averaging over parts of pixels, and loses as little.
    while len(part) >= 2 * SIDE:
        part = cv2.resize(part, (len(part) // 2, len(part) // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def in_frame(row: NDArray[np.float64], window: Window) -> Detection:
    """(15,) row of YuNet in the copy of a window -> Detection in pixels of the frame."""
    scale = np.full(2, window.side / SIDE)
    return Detection.from_row(row, scale, np.array([window.x, window.y], np.float64))


def like_faces(before: Detection, window: Window, found: Sequence[Detection]) -> list[Detection]:
    """Return the whole faces in the window that have about the size of `before`, the nearest to it first.

    The first one continues `before`. If there is none, `before` is lost.
    """
    like = [face for face in found if window.holds(face) and _size_ratio(before, face) < LARGEST_SIZE_RATIO]
    return sorted(like, key=lambda face: _distance(before, face))


def _size_ratio(a: Detection, b: Detection) -> float:
    one, other = max(a.width, a.height), max(b.width, b.height)
    return max(one, other) / max(min(one, other), 1e-9)


def _distance(a: Detection, b: Detection) -> float:
    """Return the pixels between the centres of two boxes."""
    return float(np.hypot(a.x + a.width / 2 - b.x - b.width / 2, a.y + a.height / 2 - b.y - b.height / 2))
