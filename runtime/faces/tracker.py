"""Face tracking: ids from boxes and landmarks alone. It does not recognise persons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from iern.runtime.imaging.detection import landmarks_of

if TYPE_CHECKING:
    from iern.runtime.imaging.detection import Detection

MAX_GAP = 1.0
"""Seconds after which a face that is not found is forgotten. If it comes back, it gets a new id."""

MAX_COST = 1.4
"""Highest 1 - IoU + landmark distance for a match. A shift by half a face width costs about 1.1."""

MAX_EXTRAPOLATION = 0.4
"""Seconds for which the movement of a face that is not found is extrapolated. People stop."""

VELOCITY_HALF_LIFE = 0.15
"""Half-life, in seconds, of the smoothed velocity. Detected boxes jitter by pixels, which is not movement."""

Points = NDArray[np.float64]
"""(..., 7, 2) x and y in pixels: two corners of the box, then the five landmarks."""


@dataclass(eq=False)
class _Track:
    id: int
    points: Points
    velocity: NDArray[np.float64]
    """(2,) pixels per second."""
    last_seen: float
    """Seconds of the source's clock."""


class FaceTracker:
    """`tracker.update(detections, seconds)` -> an id for each detection. Ids count from 1 and are never used twice.

    A face keeps its id through a gap shorter than `MAX_GAP`, also when another face passes in front of it: its position
    is extrapolated. If the clock goes back, or forward by `MAX_GAP` or more, all faces get new ids.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._next_id = 1

    def update(self, detections: Sequence[Detection], seconds: float) -> list[int]:
        """Return the ids of the detections in the frame at `seconds` of its source's clock, in their order."""
        self._tracks = [track for track in self._tracks if 0 <= seconds - track.last_seen < MAX_GAP]
        found = _points_of(detections)
        matched = _match(_extrapolated(self._tracks, seconds), found)
        ids = []
        for index, points in enumerate(found):
            if index in matched:
                track = self._tracks[matched[index]]
                _update(track, points, seconds)
            else:
                track = _Track(self._next_id, points, np.zeros(2), seconds)
                self._tracks.append(track)
                self._next_id += 1
            ids.append(track.id)
        return ids

    def reset(self) -> None:
        """Forget all faces: every following one gets a new id."""
        self._tracks = []


def _points_of(detections: Sequence[Detection]) -> Points:
    points = np.empty((len(detections), 7, 2))
    for row, face in zip(points, detections, strict=True):
        row[:2] = (face.x, face.y), (face.x + face.width, face.y + face.height)
        row[2:] = landmarks_of(face)
    return points


def _extrapolated(tracks: Sequence[_Track], seconds: float) -> Points:
    """(T, 7, 2): the expected positions at `seconds`."""
    expected = np.empty((len(tracks), 7, 2))
    for row, track in zip(expected, tracks, strict=True):
        row[:] = track.points + track.velocity * min(seconds - track.last_seen, MAX_EXTRAPOLATION)
    return expected


def _update(track: _Track, points: Points, seconds: float) -> None:
    elapsed = seconds - track.last_seen
    if elapsed > 0:
        velocity = (points - track.points).mean(axis=0) / elapsed
        weight = 0.5 ** (elapsed / VELOCITY_HALF_LIFE)
        track.velocity = weight * track.velocity + (1 - weight) * velocity
    track.points, track.last_seen = points, seconds


def _match(expected: Points, found: Points) -> dict[int, int]:
    """(T, 7, 2), (D, 7, 2) -> {index of a found face: index of its track}. The nearest pairs are matched first."""
    costs = _costs(expected, found)
    near = np.argwhere(costs <= MAX_COST)
    pairs: dict[int, int] = {}
    for track, face in near[np.argsort(costs[tuple(near.T)], kind="stable")].tolist():
        if face not in pairs and track not in pairs.values():
            pairs[face] = track
    return pairs


def _costs(a: Points, b: Points) -> NDArray[np.float64]:
    """(T, 7, 2), (D, 7, 2) -> (T, D) 1 - IoU of the boxes + RMS distance of the landmarks.

    The distance is in sizes of the smaller face. The size of a face is the square root of its box's area.
    """
    a, b = a[:, None], b[None]
    sides = np.clip(np.minimum(a[..., 1, :], b[..., 1, :]) - np.maximum(a[..., 0, :], b[..., 0, :]), 0, None)
    shared = sides.prod(axis=-1)
    areas = [(points[..., 1, :] - points[..., 0, :]).prod(axis=-1) for points in (a, b)]
    distance = np.sqrt(((a[..., 2:, :] - b[..., 2:, :]) ** 2).sum(axis=-1).mean(axis=-1))
    smaller = np.maximum(np.minimum(*areas), 1.0)  # square pixels: a box can have no width
    return 1 - shared / np.maximum(areas[0] + areas[1] - shared, 1.0) + distance / np.sqrt(smaller)
