"""What the analysis of a frame calls, counted: model runs, detector runs and their pixels, and arrays that are made.

Counts do not depend on the machine or its load, so a test can hold them.
"""

from __future__ import annotations

import contextlib
import statistics
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import cv2
import numpy as np

from iern.runtime.backends.providers import import_onnxruntime
from iern.runtime.imaging.images import Image
from iern.runtime.recognizer import ExpressionRecognizer

MADE_BY_OPENCV = ("resize", "warpAffine", "cvtColor", "copyMakeBorder", "remap", "warpPerspective")
"""Functions of OpenCV that return a new picture."""


@dataclass
class Counts:
    """Sums over frames."""

    frames: int = 0
    faces: int = 0
    model_runs: int = 0
    model_faces: int = 0
    """Faces that went through the model."""
    detector_runs: int = 0
    detector_pixels: int = 0
    pictures: int = 0
    """Pictures that OpenCV made."""
    picture_bytes: int = 0
    peak_bytes: int = 0
    """The most memory that a frame held in addition to what was there before it: the median frame, not a sum."""

    def clear(self) -> None:
        """Start again from 0."""
        vars(self).update(vars(Counts()))


def counts_of(frames: Sequence[Image], fps: float) -> Counts:
    """Analyse the frames, with their times at that rate, as the loop does by default, and count.

    The first frame is not counted: libraries allocate at their first call.
    """
    counts = Counts()
    with _counting(counts), ExpressionRecognizer() as recognizer:
        pipeline = recognizer.pipeline()
        pipeline(frames[0], 0.0)
        counts.clear()
        peaks = []
        tracemalloc.start()
        try:
            for index, frame in enumerate(frames[1:], 1):
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                counts.faces += len(pipeline(frame, index / fps).faces)
                counts.frames += 1
                peaks.append(tracemalloc.get_traced_memory()[1] - before)
        finally:
            tracemalloc.stop()
        counts.peak_bytes = int(statistics.median(peaks))
    return counts


@contextlib.contextmanager
def _counting(counts: Counts) -> Iterator[None]:
    """Count every run of onnxruntime and YuNet, and every picture that OpenCV makes, until the block ends."""
    session = import_onnxruntime().InferenceSession
    run = session.run
    create = cv2.FaceDetectorYN.create

    def counted_run(own: Any, outputs: Any, inputs: Any, *rest: Any) -> Any:
        for value in inputs.values():
            _add_run(counts, value)
        return run(own, outputs, inputs, *rest)

    def counted_create(*arguments: Any, **options: Any) -> _CountedYuNet:
        return _CountedYuNet(create(*arguments, **options), counts)

    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(session, "run", counted_run))
        patches.enter_context(mock.patch.object(cv2, "FaceDetectorYN", SimpleNamespace(create=counted_create)))
        for name in MADE_BY_OPENCV:
            patches.enter_context(mock.patch.object(cv2, name, _counted_function(getattr(cv2, name), counts)))
        yield


def _add_run(counts: Counts, value: Any) -> None:
    """A run of a network on that input: (B, S, S, 3) uint8 is a batch of faces, all else is searched for faces."""
    if value.dtype == np.uint8 and value.ndim == 4 and value.shape[-1] == 3 and value.shape[1] == value.shape[2]:
        counts.model_runs += 1
        counts.model_faces += len(value)
    else:
        counts.detector_runs += 1
        counts.detector_pixels += value.size // 3


def _counted_function(function: Callable[..., Image], counts: Counts) -> Callable[..., Image]:
    def counted(*arguments: Any, **options: Any) -> Image:
        made = function(*arguments, **options)
        counts.pictures += 1
        counts.picture_bytes += made.nbytes
        return made

    return counted


class _CountedYuNet:
    """OpenCV's detector; every search is counted with its pixels."""

    def __init__(self, yunet: cv2.FaceDetectorYN, counts: Counts) -> None:
        self._yunet, self._counts = yunet, counts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._yunet, name)

    def detect(self, image: Image) -> Any:
        self._counts.detector_runs += 1
        self._counts.detector_pixels += image.shape[0] * image.shape[1]
        return self._yunet.detect(image)
