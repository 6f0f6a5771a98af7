"""A pen that draws on a turned head: it takes face units and draws anti-aliased pixels."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.imaging.images import Image
from iern.train.cartoons.people import Colour

Points = NDArray[np.float64]
"""(n, 2) x to the picture's right and y down, in face units (1 is half the height of the face)."""

SUBPIXEL_BITS = 4
DEPTH = 0.75
"""Distance of the middle of the face in front of the silhouette, face units."""

_T = np.linspace(0, 1, 13)[:, None]
_THROUGH = np.hstack([(2 * _T - 1) * (_T - 1), 4 * _T * (1 - _T), _T * (2 * _T - 1)])
_ANGLE = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], 1)


def arc(*points: tuple[float, float]) -> Points:
    """Three points -> (13, 2) points of the parabola that passes first, second (half-way) and third."""
    return _THROUGH @ np.array(points, np.float64)


def oval(x: float, y: float, half_width: float, half_height: float) -> Points:
    """(24, 2) points of an upright ellipse."""
    return _CIRCLE * (half_width, half_height) + (x, y)


@dataclass(frozen=True)
class HeadPose:
    """Place and direction of the head in the picture; lengths in canvas pixels, angles in radians."""

    centre: tuple[float, float]
    scale: float
    """Pixels in one face unit."""
    roll: float
    yaw: float
    pitch: float

    def place(self, points: Points, flat: bool = False) -> Points:
        """(n, 2) face units -> (n, 2) canvas pixels.

        Points are on the curved face and move when it turns; `flat` ones are in the plane of the silhouette.
        """
        x, y = points[:, 0], points[:, 1]
        if not flat:
            bulge = DEPTH * np.sqrt(np.maximum(0, 1 - x * x - 0.6 * y * y))
            x = x * math.cos(self.yaw) + bulge * math.sin(self.yaw)
            y = y * math.cos(self.pitch) + bulge * math.sin(self.pitch)
        cos, sin = self.scale * math.cos(self.roll), self.scale * math.sin(self.roll)
        placed = np.empty_like(points)
        placed[:, 0] = self.centre[0] + cos * x - sin * y
        placed[:, 1] = self.centre[1] + sin * x + cos * y
        return placed


class Pen:
    """Draws on `canvas`, an (H, W, 3) uint8 BGR array, in place."""

    def __init__(self, canvas: Image, pose: HeadPose) -> None:
        self.canvas = canvas
        self.pose = pose

    def fill(self, outline: Points, colour: Colour, flat: bool = False) -> None:
        """Draw a filled polygon."""
        cv2.fillPoly(self.canvas, [self._pixels(outline, flat)], colour, cv2.LINE_AA, SUBPIXEL_BITS)

    def stroke(self, line: Points, colour: Colour, width: float, flat: bool = False, closed: bool = False) -> None:
        """Draw a line of `width` face units, at least one canvas pixel."""
        thickness = max(1, round(width * self.pose.scale))
        cv2.polylines(self.canvas, [self._pixels(line, flat)], closed, colour, thickness, cv2.LINE_AA, SUBPIXEL_BITS)

    @contextlib.contextmanager
    def inside(self, outlines: Sequence[Points]) -> Iterator[None]:
        """Keep what is drawn in the block only inside the outlines."""
        below = self.canvas.copy()
        yield
        outside = np.full(self.canvas.shape[:2], 255, np.uint8)
        for outline in outlines:
            cv2.fillPoly(outside, [self._pixels(outline, False)], 0, cv2.LINE_8, SUBPIXEL_BITS)
        cv2.copyTo(below, outside, self.canvas)

    def _pixels(self, points: Points, flat: bool) -> NDArray[np.int32]:
        return np.rint(self.pose.place(points, flat) * (1 << SUBPIXEL_BITS)).astype(np.int32)
