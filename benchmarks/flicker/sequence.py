"""A film whose true expressions are known: what changes in it when, and how steadily and soon its faces are named."""

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
"""Standard deviation of a pixel's noise in the still faces, of 255: a camera in a dim room ..."""
EXPOSURE = 0.03
"""... whose exposure wavers by so much ..."""
SHAKE = 0.5
"""... and which trembles by so many pixels."""

Truth = Sequence[tuple[str, ...]]
"""Of each frame the expressions of its faces, from left to right."""
Labels = Sequence[tuple[str, ...]]
"""Of each frame what its faces are called, from left to right."""


@dataclass(frozen=True)
class Seen:
    """One frame: its time in seconds, its faces from left to right, and the model's answer to each."""

    seconds: float
    detections: Sequence[Detection]
    answer: Predictions


@dataclass(frozen=True)
class Change:
    """The face at place `face` changes at frame `start` to an expression that it keeps until before frame `end`."""

    face: int
    start: int
    end: int
    expression: str


def read_truth(path: Path) -> Truth:
    """A CSV file with the columns frame, strength (not read) and, from left to right, one of expressions for each face.

    Raises DataError where it is no such table.
    """
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name not in ("frame", "strength")]
    if not names or any(row.get("frame") != str(index) for index, row in enumerate(rows)):
        raise DataError(f"{path}: expected rows of frame (0, 1, ...), strength and the expression of each face")
    return [tuple(row[name] for name in names if row[name]) for row in rows]


def changes_of(truth: Truth) -> list[Change]:
    """Every true change of a face; the first frame, and a face that comes or goes, is none."""
    found = []
    for face in range(max(map(len, truth))):
        names = [row[face] if face < len(row) else "" for row in truth]
        starts = [i for i in range(1, len(names)) if names[i] != names[i - 1]]
        for start, end in zip(starts, [*starts[1:], len(names)], strict=True):
            if names[start] and names[start - 1] and len(truth[start]) == len(truth[start - 1]):
                found.append(Change(face, start, end, names[start]))
    return sorted(found, key=lambda change: change.start)


def stills_of(truth: Truth) -> list[int]:
    """Of each stretch in which nothing changes, the first frame, where a face is between two, and the middle one."""
    starts = [i for i in range(len(truth)) if i == 0 or truth[i] != truth[i - 1]]
    ends = [*starts[1:], len(truth)]
    return sorted({i for start, end in zip(starts, ends, strict=True) for i in (start, (start + end) // 2)})


def noisy(image: Image, frames: int, seed: int) -> Iterator[Image]:
    """The picture as a camera that stands before it would give it, again and again."""
    rng = np.random.default_rng(seed)
    size = image.shape[1], image.shape[0]
    for _ in range(frames):
        x, y = rng.normal(0, SHAKE, 2)
        shaken = cv2.warpAffine(
            image, np.array([[1, 0, x], [0, 1, y]]), size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        exposed = shaken * rng.normal(1, EXPOSURE) + rng.normal(0, NOISE, image.shape).astype(np.float32)
        yield np.rint(exposed).clip(0, 255).astype(np.uint8)


def replay(film: Sequence[Seen], artifact: Artifact, half_life: float, margin: float) -> tuple[Labels, int]:
    """What the faces of the film are called under these settings, and how many different tracks they had."""
    tracker, smoother = FaceTracker(), PredictionSmoother(artifact, half_life, margin)
    labels, tracks = [], set()
    for seen in film:
        ids = tracker.update(seen.detections, seen.seconds)
        _, names = smoother(ids, seen.answer, seen.seconds)
        tracks.update(ids)
        labels.append(tuple(UNCERTAIN if n.uncertain else artifact.expressions[n.expression] for n in names))
    return labels, len(tracks)


def label_changes(labels: Labels) -> int:
    """How often a face is called otherwise than in the frame before, where both have as many faces."""
    return sum(
        a != b
        for before, now in itertools.pairwise(labels)
        if len(before) == len(now)
        for a, b in zip(before, now, strict=True)
    )


def delay(labels: Labels, seconds: Sequence[float], change: Change) -> float | None:
    """Seconds from a true change until the face is first called so; None where it never is before the next change."""
    for index in range(change.start, change.end):
        if change.face < len(labels[index]) and labels[index][change.face] == change.expression:
            return seconds[index] - seconds[change.start]
    return None


def known(labels: Labels, change: Change) -> bool:
    """Whether the face is called rightly in most frames from the true change to the next."""
    called = [row[change.face] for row in labels[change.start : change.end] if change.face < len(row)]
    return 2 * called.count(change.expression) > change.end - change.start


def agreement(labels: Labels, truth: Truth) -> dict[str, float]:
    """Shares of the true faces that are called rightly, wrongly, `uncertain`, or not found."""
    counts = dict.fromkeys(("right", "wrong", "uncertain", "missed"), 0)
    for found, true in zip(labels, truth, strict=True):
        for face, expression in enumerate(true):
            label = found[face] if face < len(found) else "missed"
            kind = label if label in (UNCERTAIN, "missed") else "right" if label == expression else "wrong"
            counts[kind] += 1
    return {kind: count / sum(counts.values()) for kind, count in counts.items()}
