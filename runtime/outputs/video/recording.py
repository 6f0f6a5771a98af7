"""A video of the annotated frames, each with its own time, in a file that can be played at any moment.

The file has its final name from the first frame on. A killed process leaves all but the last few frames of it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from iern.runtime.errors import OutputError
from iern.runtime.imaging.images import Image
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.outputs.video.avi import Avi
from iern.runtime.outputs.video.container import VideoContainer
from iern.runtime.outputs.video.mp4 import Mp4
from iern.runtime.outputs.video.webm import WebM
from iern.runtime.system.latency import counted


class Format(NamedTuple):
    """How a suffix is written."""

    container: type[VideoContainer]
    encoder: str
    """What OpenCV calls the format of the single pictures."""
    quality: list[int]


JPEG, WEBP = [cv2.IMWRITE_JPEG_QUALITY, 90], [cv2.IMWRITE_WEBP_QUALITY, 75]
FORMATS = {".mp4": Format(Mp4, ".jpg", JPEG), ".avi": Format(Avi, ".jpg", JPEG), ".webm": Format(WebM, ".webp", WEBP)}

LONGEST_STILL = 30.0
"""Seconds without a frame after which a live source was away, or its clock has jumped: a new segment."""
LONGEST_BACK = 0.5
"""Seconds that a live source's clock may go back within a segment."""
LARGEST = 2_000_000_000
"""Bytes of a segment: an AVI holds little more, and an SD card's FAT 4 GiB."""
LONGEST = 6 * 3600.0
"""Seconds of a segment: an MP4's clock counts 13 hours."""
SMALLEST_SCALE = 0.5
"""Of files, a picture is fitted into the size of the segment unless it would be shrunk to less than this."""
STEP = 0.001
"""Seconds between frames at least: where a clock stands still, the recording's does not."""


@contextlib.contextmanager
def recording(path: Path, fps: float) -> Iterator[Sink]:
    """A video of the annotated frames in their own time; no frames, no file. `fps` is the source's, of a live one 0.

    Goes on in NAME-001.EXT, and says so, where the size of a live source's frames changes, where the source came back
    after a loss or its clock jumped, and where a file has grown large. Raises OutputError and OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)  # what can be known to fail fails before the first frame
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path}: {path.parent} may not be written to; choose another folder")
    recorder = Recorder(path, fps)
    try:
        yield recorder.add
    finally:
        recorder.close()


class Recorder:
    """The segments of one recording, one after the other."""

    def __init__(self, path: Path, fps: float) -> None:
        self.paths: list[Path] = []
        """The files begun until now."""
        self._path, self._fps, self._live = path, fps, not fps
        self._format = FORMATS[path.suffix.lower()]
        self._container: VideoContainer | None = None
        self._segment, self._shape = 0, (0, 0)
        self._origin = self._last = 0.0

    def add(self, view: FrameResult) -> None:
        """One more frame. Raises OSError where it cannot be written, and OutputError where it cannot be encoded."""
        image = view.annotated
        reason = self._reason_to_part(view, image)
        if self._container is None or reason:
            self._begin(image, reason)
            self._origin, self._last = view.frame.time, -STEP
        self._segment, self._shape = view.frame.segment, image.shape[:2]
        assert self._container is not None
        seconds = max(view.frame.time - self._origin, self._last + STEP)
        self._container.add(self._encoded(_fitted(image, self._container.width, self._container.height)), seconds)
        self._last = seconds

    def close(self) -> None:
        """Finish the segment under way. A full disk leaves it without an index, which is said."""
        container, self._container = self._container, None
        if container is None:
            return
        path = self.paths[-1]
        try:
            container.close()
        except OSError as error:
            text = f"warning: {path}: has no index ({error.strerror}); it plays, but seeks slowly"
            print(text, file=sys.stderr, flush=True)
        if container.left_out:
            print(
                f"note: {path}: left out {counted(container.left_out, 'frame')} that came faster than the "
                f"{container.fps:g} a second of this format; .mp4 and .webm have room for all",
                flush=True,
            )

    def _reason_to_part(self, view: FrameResult, image: Image) -> str:
        """Why this frame begins another file, empty where it does not."""
        if self._container is None:
            return ""
        width, height = self._container.width, self._container.height
        seconds = view.frame.time - self._origin
        resized = image.shape[:2] != self._shape
        if image.shape[:2] != (height, width) and (self._live or _scale(image, width, height) < SMALLEST_SCALE):
            return f"frames changed from {width}x{height} to {image.shape[1]}x{image.shape[0]}"
        if view.frame.segment != self._segment and (self._live or not resized):
            return "the source came back, or its clock was set anew"
        if self._live and not -LONGEST_BACK <= seconds - self._last <= LONGEST_STILL:
            return f"the source's clock jumped by {seconds - self._last:.0f} s"
        if self._container.size > LARGEST or seconds > LONGEST:
            return "the file has grown large"
        return ""

    def _begin(self, image: Image, reason: str) -> None:
        self.close()
        stem = self._path.stem + (f"-{len(self.paths):03d}" if self.paths else "")
        path = self._path.with_name(stem + self._path.suffix)
        if reason:
            print(f"note: {reason}: the recording goes on in {path}", flush=True)
        height, width = image.shape[:2]
        self._encoded(image)  # a size that cannot be encoded leaves no file
        self._container = self._format.container(path, width, height, self._fps)
        self.paths.append(path)

    def _encoded(self, image: Image) -> bytes:
        try:
            encoded, data = cv2.imencode(self._format.encoder, image, self._format.quality)
        except cv2.error:
            encoded = False
        if not encoded:
            raise OutputError(
                f"{self._path}: frames of {image.shape[1]}x{image.shape[0]} cannot be encoded for "
                f"{self._path.suffix}; try another of {' '.join(FORMATS)}"
            )
        return data.tobytes()


def _scale(image: Image, width: int, height: int) -> float:
    return min(width / image.shape[1], height / image.shape[0])


def _fitted(image: Image, width: int, height: int) -> Image:
    """The picture at (height, width), its aspect kept, black around it."""
    if image.shape[:2] == (height, width):
        return image
    scale = _scale(image, width, height)
    inner = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    canvas = np.zeros((height, width, 3), np.uint8)
    x, y = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[y : y + inner[1], x : x + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    return canvas
