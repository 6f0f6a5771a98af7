"""Where the answers go besides a window: a video, a still picture, JSON lines, and words for single images.

Each is a context manager that yields a sink, a function called with every view. A file appears whole when the block
ends, or not at all where an error ends it; a loop that is told to stop ends its block well.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from iern.runtime.errors import OutputError
from iern.runtime.files import atomic_path
from iern.runtime.images import Image
from iern.runtime.options import CODECS
from iern.runtime.results import UNCERTAIN, record
from iern.runtime.view import Sink, View

LIVE_FPS = 15.0
"""Frames a second in the recording of a live source: its own rate is not known before."""

LONGEST_STILL = 1.0
"""Seconds for which a recording repeats a picture at most; longer gaps, as of a lost stream, are cut."""


def print_answers(view: View) -> None:
    """The sink for single images: a line with the name, and of each face expression and probability, or `uncertain`."""
    answers = ", ".join(
        UNCERTAIN if face.uncertain else f"{face.expression} {face.probability:.2f}" for face in view.faces
    )
    print(f"{view.frame.name}: {answers or 'no face'}", flush=True)


@contextlib.contextmanager
def json_lines(path: Path) -> Iterator[Sink]:
    """A file with one record a frame, as `iern.runtime.results.record` makes them."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:

        def write(view: View) -> None:
            line = json.dumps(record(view.frame, view.faces, view.latency), ensure_ascii=False, allow_nan=False)
            file.write(line + "\n")

        yield write


@contextlib.contextmanager
def still(path: Path) -> Iterator[Sink]:
    """A picture of the frame with the most faces, the last one of several such."""
    best: View | None = None

    def consider(view: View) -> None:
        nonlocal best
        if best is None or len(view.faces) >= len(best.faces):
            best = view

    yield consider
    if best is not None:
        encoded, data = cv2.imencode(path.suffix, best.annotated)
        if not encoded:
            raise OutputError(f"{path}: OpenCV cannot encode a picture of {best.annotated.shape}; try .png")
        with atomic_path(path) as temporary:
            temporary.write_bytes(data.tobytes())


@contextlib.contextmanager
def recording(path: Path, fps: float) -> Iterator[Sink]:
    """A video of the annotated frames at `fps` (0: `LIVE_FPS`), as long as the source took; no frames, no file."""
    with contextlib.ExitStack() as stack:
        write: Callable[[Image, float], None] | None = None

        def append(view: View) -> None:
            nonlocal write
            if write is None:
                write = stack.enter_context(_video(path, fps or LIVE_FPS, view.annotated))
            write(view.annotated, view.frame.time)

        yield append


@contextlib.contextmanager
def _video(path: Path, fps: float, first: Image) -> Iterator[Callable[[Image, float], None]]:
    """A function that appends a picture with its time in seconds; all are brought to the size of the first."""
    height, width = first.shape[:2]
    with atomic_path(path) as temporary:
        codec = cv2.VideoWriter_fourcc(*CODECS[path.suffix.lower()])
        with _stderr_silenced():  # OpenCV remarks on VP8's tag, and writes it rightly all the same
            writer = cv2.VideoWriter(str(temporary), codec, fps, (width, height))
        if not writer.isOpened():
            raise OutputError(
                f"{path}: OpenCV has no encoder for {width}x{height} frames in {path.suffix}; "
                f"try another of {' '.join(CODECS)}"
            )
        clock, last, written = 0.0, math.nan, 0

        def append(image: Image, seconds: float) -> None:
            nonlocal clock, last, written
            if not math.isnan(last):
                clock += min(seconds - last, max(LONGEST_STILL, 1 / fps))
            last = seconds
            due = round(clock * fps) + 1
            for _ in range(written, due):
                writer.write(_fitted(image, width, height))
            written = max(written, due)

        try:
            yield append
        finally:
            writer.release()
        _check_playable(temporary, path)


def _fitted(image: Image, width: int, height: int) -> Image:
    """The picture at (height, width), its aspect kept, black around it: the encoder drops any other size silently."""
    if image.shape[:2] == (height, width):
        return image
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    canvas = np.zeros((height, width, 3), np.uint8)
    x, y = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[y : y + inner[1], x : x + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    return canvas


def _check_playable(video: Path, path: Path) -> None:
    """OpenCV's writer reports no error, not even of a full disk: read the file back."""
    capture = cv2.VideoCapture(str(video))
    playable = capture.isOpened() and capture.read()[0]
    capture.release()
    if not playable:
        raise OutputError(f"{path}: the recording cannot be played back; is the disk full?")


@contextlib.contextmanager
def _stderr_silenced() -> Iterator[None]:
    """For what a C library prints past every logger."""
    saved = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)
