"""Which face of this frame is which of the last: ids from boxes and landmarks alone, nobody is recognised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from iern.runtime.imaging.detection import Detection

PATIENCE = 1.0
"""Seconds: a face out of sight for so long is forgotten, and a new one if it comes back."""

FARTHEST = 1.4
"""1 - IoU + distance of the landmarks, above which two faces are not one. Half a width aside gives about 1.1."""

HORIZON = 0.4
"""Seconds for which an unseen face is thought to go on moving; people stop."""

STEADINESS = 0.15
"""Half-life, in seconds, of a face's velocity: a detector trembles by pixels, which is no movement."""

Points = NDArray[np.float64]
"""(..., 7, 2) x and y in pixels: the box's two corners, then the five landmarks."""


@dataclass(eq=False)
class _Track:
    id: int
    points: Points
    velocity: NDArray[np.float64]
    """(2,) pixels a second."""
    seen: float


class FaceTracker:
    """`tracker.update(detections, seconds)` -> an id for each. Ids count from 1 and are never used twice.

    A face keeps its id while it is missed for less than `PATIENCE`, also where another one passes before it: it is
    looked for where its velocity has taken it. A clock that goes back, or on by `PATIENCE` and more, is another scene.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._next = 1

    def update(self, detections: Sequence[Detection], seconds: float) -> list[int]:
        """Faces of the frame at `seconds` of its source's clock -> their ids, in the order of the faces."""
        self._tracks = [track for track in self._tracks if 0 <= seconds - track.seen < PATIENCE]
        found = _points(detections)
        matched = _pairs(_expected(self._tracks, seconds), found)
        ids = []
        for index, points in enumerate(found):
            if index in matched:
                track = self._tracks[matched[index]]
                _move(track, points, seconds)
            else:
                track = _Track(self._next, points, np.zeros(2), seconds)
                self._tracks.append(track)
                self._next += 1
            ids.append(track.id)
        return ids

    def new_scene(self) -> None:
        """Forget all faces: the next one is another's, wherever it is."""
        self._tracks = []


def _points(detections: Sequence[Detection]) -> Points:
    points = np.empty((len(detections), 7, 2))
    for row, face in zip(points, detections, strict=True):
        row[:2] = (face.x, face.y), (face.x + face.width, face.y + face.height)
        row[2:] = face.landmarks
    return points


def _expected(tracks: Sequence[_Track], seconds: float) -> Points:
    """(T, 7, 2): where the faces should be by now."""
    expected = np.empty((len(tracks), 7, 2))
    for row, track in zip(expected, tracks, strict=True):
        row[:] = track.points + track.velocity * min(seconds - track.seen, HORIZON)
    return expected


def _move(track: _Track, points: Points, seconds: float) -> None:
    elapsed = seconds - track.seen
    if elapsed > 0:
        velocity = (points - track.points).mean(axis=0) / elapsed
        kept = 0.5 ** (elapsed / STEADINESS)
        track.velocity = kept * track.velocity + (1 - kept) * velocity
    track.points, track.seen = points, seconds


def _pairs(expected: Points, found: Points) -> dict[int, int]:
    """(T, 7, 2), (D, 7, 2) -> index of a found face: index of the track it continues, the nearest pairs first."""
    costs = _costs(expected, found)
    near = np.argwhere(costs <= FARTHEST)
    pairs: dict[int, int] = {}
    for track, face in near[np.argsort(costs[tuple(near.T)], kind="stable")].tolist():
        if face not in pairs and track not in pairs.values():
            pairs[face] = track
    return pairs


def _costs(a: Points, b: Points) -> NDArray[np.float64]:
    """(T, 7, 2), (D, 7, 2) -> (T, D) 1 - IoU of the boxes + RMS distance of the landmarks.

    The distance is in sizes of the smaller face; a size is the root of the box's area.
    """
    a, b = a[:, None], b[None]
    sides = np.clip(np.minimum(a[..., 1, :], b[..., 1, :]) - np.maximum(a[..., 0, :], b[..., 0, :]), 0, None)
    shared = sides.prod(axis=-1)
    areas = [(points[..., 1, :] - points[..., 0, :]).prod(axis=-1) for points in (a, b)]
    distance = np.sqrt(((a[..., 2:, :] - b[..., 2:, :]) ** 2).sum(axis=-1).mean(axis=-1))
    smaller = np.maximum(np.minimum(*areas), 1.0)  # square pixels: a box may have lost all its width
    return 1 - shared / np.maximum(areas[0] + areas[1] - shared, 1.0) + distance / np.sqrt(smaller)
