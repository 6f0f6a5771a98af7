"""A video whose true expressions are known: when they change, and how steadily and soon its faces' labels follow."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from iern.runtime.artifact import Artifact
from iern.runtime.errors import DataError
from iern.runtime.faces.face import UNCERTAIN
from iern.runtime.faces.smoothing import PredictionSmoother
from iern.runtime.faces.tracker import FaceTracker
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import Image
from iern.runtime.session import Predictions

NOISE = 15.0
"""Standard deviation of a pixel's noise in the stills, of 255, as of a camera in a dim room."""
EXPOSURE = 0.03
"""Standard deviation of the exposure in the stills, as a share."""
SHAKE = 0.5
"""Standard deviation of the camera's movement in the stills, in pixels."""

Truth = Sequence[tuple[str, ...]]
"""The true expressions of each frame's faces, from left to right."""
Labels = Sequence[tuple[str, ...]]
"""The labels of each frame's faces, from left to right."""


@dataclass(frozen=True)
class PredictedFrame:
    """One frame: its time in seconds, its faces from left to right, and the model's predictions."""

    seconds: float
    detections: Sequence[Detection]
    predictions: Predictions


@dataclass(frozen=True)
class ExpressionChange:
    """Face number `face` from the left changes at frame `start` to an expression that it keeps until frame `end`."""

    face: int
    start: int
    end: int
    expression: str


def read_truth(path: Path) -> Truth:
    """Read a CSV file with the columns frame, strength (not used) and one for each face's expression, left to right.

    Raises DataError if it is no such table.
    """
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name not in ("frame", "strength")]
    if not names or any(row.get("frame") != str(index) for index, row in enumerate(rows)):
        raise DataError(f"{path}: expected rows of frame (0, 1, ...), strength and the expression of each face")
    return [tuple(row[name] for name in names if row[name]) for row in rows]


def changes_of(truth: Truth) -> list[ExpressionChange]:
    """Every true change of a face. A face that appears or disappears is no change."""
    found = []
    for face in range(max(map(len, truth))):
        names = [row[face] if face < len(row) else "" for row in truth]
        starts = [i for i in range(1, len(names)) if names[i] != names[i - 1]]
        for start, end in zip(starts, [*starts[1:], len(names)], strict=True):
            if names[start] and names[start - 1] and len(truth[start]) == len(truth[start - 1]):
                found.append(ExpressionChange(face, start, end, names[start]))
    return sorted(found, key=lambda change: change.start)


def stills_of(truth: Truth) -> list[int]:
    """The first frame of each stretch in which nothing changes, in which a face is between two, and the middle one."""
    starts = [i for i in range(len(truth)) if i == 0 or truth[i] != truth[i - 1]]
    ends = [*starts[1:], len(truth)]
    return sorted({i for start, end in zip(starts, ends, strict=True) for i in (start, (start + end) // 2)})


def camera_frames(image: Image, frames: int, seed: int) -> Iterator[Image]:
    """The picture as a camera in front of it would deliver it, frame by frame."""
    rng = np.random.default_rng(seed)
    size = image.shape[1], image.shape[0]
    for _ in range(frames):
        x, y = rng.normal(0, SHAKE, 2)
        shaken = cv2.warpAffine(
            image, np.array([[1, 0, x], [0, 1, y]]), size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        exposed = shaken * rng.normal(1, EXPOSURE) + rng.normal(0, NOISE, image.shape).astype(np.float32)
        yield np.rint(exposed).clip(0, 255).astype(np.uint8)


def replay(frames: Sequence[PredictedFrame], artifact: Artifact, half_life: float, margin: float) -> tuple[Labels, int]:
    """The labels of the frames' faces with these settings, and how many different tracks they had."""
    tracker, smoother = FaceTracker(), PredictionSmoother(artifact, half_life, margin)
    labels, tracks = [], set()
    for frame in frames:
        ids = tracker.update(frame.detections, frame.seconds)
        _, found = smoother(ids, frame.predictions, frame.seconds)
        tracks.update(ids)
        labels.append(
            tuple(UNCERTAIN if label.uncertain else artifact.expressions[label.expression] for label in found)
        )
    return labels, len(tracks)


def label_changes(labels: Labels) -> int:
    """How often a face has another label than in the frame before, if both frames have as many faces."""
    return sum(
        a != b
        for before, now in itertools.pairwise(labels)
        if len(before) == len(now)
        for a, b in zip(before, now, strict=True)
    )


def delay(labels: Labels, seconds: Sequence[float], change: ExpressionChange) -> float | None:
    """Seconds from a true change to the first frame with that label; None if there is none before the next change."""
    for index in range(change.start, change.end):
        if change.face < len(labels[index]) and labels[index][change.face] == change.expression:
            return seconds[index] - seconds[change.start]
    return None


def is_known(labels: Labels, change: ExpressionChange) -> bool:
    """Whether the face has the right label in most frames from the true change to the next."""
    found = [row[change.face] for row in labels[change.start : change.end] if change.face < len(row)]
    return 2 * found.count(change.expression) > change.end - change.start


def agreement(labels: Labels, truth: Truth) -> dict[str, float]:
    """Shares of the true faces whose label is right, wrong, `uncertain`, or missing."""
    counts = dict.fromkeys(("right", "wrong", "uncertain", "missed"), 0)
    for found, true in zip(labels, truth, strict=True):
        for face, expression in enumerate(true):
            label = found[face] if face < len(found) else "missed"
            kind = label if label in (UNCERTAIN, "missed") else "right" if label == expression else "wrong"
            counts[kind] += 1
    return {kind: count / sum(counts.values()) for kind, count in counts.items()}
