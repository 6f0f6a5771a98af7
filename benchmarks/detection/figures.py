"""How far one search of a sequence agrees with a search of every whole frame, and what each costs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from benchmarks.detection.sequences import Clip
from iern.runtime.bundled import YUNET
from iern.runtime.faces.detector import OVERLAP, SCORE, FaceDetector
from iern.runtime.faces.search import FaceFinder
from iern.runtime.faces.tracker import FaceTracker
from iern.runtime.faces.windows import Window
from iern.runtime.faces.yunet import OpenCvYunet
from iern.runtime.imaging.detection import Detection, intersection_over_union
from iern.runtime.imaging.images import Image

FOUND = 0.5
"""Least IoU of two boxes of one face."""

Find = Callable[[Image, float], list[Detection]]


@dataclass
class Search:
    """What one way of searching found in a sequence, frame by frame."""

    find: Find
    faces: list[list[Detection]] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    """Of the processor, on one thread."""

    def __call__(self, image: Image, seconds: float) -> None:
        """Search one frame."""
        start = time.process_time()
        faces = self.find(image, seconds)
        self.milliseconds.append(1000 * (time.process_time() - start))
        self.faces.append(faces)


class CountingDetector(FaceDetector):
    """The detector of the loop, which counts what it is asked for."""

    whole = 0
    """Searches of a whole frame."""
    windows = 0

    def __call__(self, frame: np.ndarray) -> list[Detection]:
        """Count, and search."""
        self.whole += 1
        return super().__call__(frame)

    def in_windows(self, frame: Image, windows: Sequence[Window]) -> list[list[Detection]]:
        """Count, and search."""
        self.windows += len(windows)
        return super().in_windows(frame, windows)


def measure(sequence: Clip) -> dict[str, Any]:
    """Search a sequence in three ways, in turns frame by frame -> plain figures.

    The ways are OpenCV and onnxruntime in the whole of every frame, and the loop's search. All use one thread.
    """
    cv2.setNumThreads(1)
    opencv, onnx, tracked = FaceDetector(threads=1), FaceDetector(threads=1), CountingDetector(threads=1)
    opencv._yunet = OpenCvYunet(YUNET.read_bytes(), SCORE, OVERLAP, YUNET.name)
    finder = FaceFinder(tracked)
    searches = {
        "opencv": Search(lambda image, _: opencv(image)),
        "onnxruntime": Search(lambda image, _: onnx(image)),
        "tracked": Search(finder),
    }
    order, times = random.Random(0), []
    for image, seconds in sequence.frames():
        times.append(seconds)
        for name in order.sample(list(searches), len(searches)):
            searches[name](image, seconds)
    return {
        "name": sequence.name,
        "frames": len(times),
        "whole": tracked.whole,
        "windows": tracked.windows,
        "milliseconds": {name: float(np.mean(search.milliseconds)) for name, search in searches.items()},
        "engines": compare(searches["opencv"].faces, searches["onnxruntime"].faces, times),
        **compare(searches["onnxruntime"].faces, searches["tracked"].faces, times),
    }


def compare(
    expected: Sequence[Sequence[Detection]], found: Sequence[Sequence[Detection]], times: Sequence[float]
) -> dict[str, Any]:
    """The faces of each frame by a search of every whole frame, and by another search -> how far they agree.

    `waiting` counts the faces that were not found yet, and were found later, and `delay` is the longest wait in
    seconds. `switches` counts how often a face that keeps its track in the first gets another track in the second.
    """
    tracks, others = FaceTracker(), FaceTracker()
    overlaps: list[float] = []
    faces = extra = switches = 0
    first_seen: dict[int, float] = {}
    waiting: dict[int, int] = {}
    delays: dict[int, float | None] = {}
    last: dict[int, int] = {}
    ids_found: set[int] = set()
    for here, there, seconds in zip(expected, found, times, strict=True):
        ids, other_ids = tracks.update(here, seconds), others.update(there, seconds)
        ids_found.update(other_ids)
        pairs = _pairs(here, there)
        faces, extra = faces + len(here), extra + len(there) - len(pairs)
        for index, id in enumerate(ids):
            first_seen.setdefault(id, seconds)
            delays.setdefault(id, None)
            if index not in pairs:
                waiting[id] = waiting.get(id, 0) + (delays[id] is None)
                continue
            other, overlap = pairs[index]
            overlaps.append(overlap)
            if delays[id] is None:
                delays[id] = seconds - first_seen[id]
            switches += last.get(id, other_ids[other]) != other_ids[other]
            last[id] = other_ids[other]
    known = [late for late in delays.values() if late is not None]
    return {
        "faces": faces,
        "found": len(overlaps),
        "extra": extra,
        "iou": float(np.mean(overlaps)) if overlaps else 0.0,
        "least_iou": float(np.min(overlaps)) if overlaps else 0.0,
        "waiting": sum(waiting.get(id, 0) for id, late in delays.items() if late is not None),
        "delay": max(known, default=0.0),
        "never_seen": len(delays) - len(known),
        "tracks": len(delays),
        "tracks_found": len(ids_found),
        "switches": switches,
    }


def total(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of all sequences together."""
    counts = ("frames", "faces", "found", "extra", "waiting", "switches", "tracks", "tracks_found", "whole", "windows")
    frames = sum(row["frames"] for row in rows)
    found = sum(row["found"] for row in rows)
    return {
        **{name: sum(row[name] for row in rows) for name in counts},
        "iou": sum(row["iou"] * row["found"] for row in rows) / found,
        "least_iou": min(row["least_iou"] for row in rows),
        "delay": max(row["delay"] for row in rows),
        "milliseconds": {
            name: sum(row["milliseconds"][name] * row["frames"] for row in rows) / frames
            for name in rows[0]["milliseconds"]
        },
        "engines_faces": sum(row["engines"]["faces"] for row in rows),
        "engines_found": sum(row["engines"]["found"] for row in rows),
        "engines_least_iou": min(row["engines"]["least_iou"] for row in rows),
    }


def _pairs(here: Sequence[Detection], there: Sequence[Detection]) -> dict[int, tuple[int, float]]:
    """Index of a face here -> index of its box there and their IoU. The nearest pairs are matched first."""
    overlaps = [(intersection_over_union(a, b), i, j) for i, a in enumerate(here) for j, b in enumerate(there)]
    pairs: dict[int, tuple[int, float]] = {}
    taken: set[int] = set()
    for overlap, i, j in sorted(overlaps, reverse=True):
        if overlap >= FOUND and i not in pairs and j not in taken:
            pairs[i] = j, overlap
            taken.add(j)
    return pairs
