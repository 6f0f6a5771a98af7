"""Where frames come from, and the finite sources: image files and video files give every frame."""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2

from iern.runtime.errors import IernError, ImageError, SourceError, one_line
from iern.runtime.images import Image, as_bgr, read_image
from iern.runtime.latency import counted

FAR_SHORT = 0.9
"""A video that delivers less than this part of the frames it announces is reported as cut off or damaged."""

DEFAULT_FPS = 25.0
"""Frames a second where a video file does not say, or says nonsense: 0, or its clock's 90,000 ticks."""
HIGHEST_FPS = 1000.0

LEAP, LEAP_BACK = 3600.0, 1.0
"""Seconds: the clock of a video that goes so far ahead, or back, was set anew, and what records it begins anew too."""

State = Literal["live", "stalled", "black", "reconnecting", "ended"]
"""`stalled`: no new picture, though the connection stands; `reconnecting`: there is none"""

LIBRARIES = {"FFMPEG": "FFmpeg", "GSTREAMER": "GStreamer"}
"""What OpenCV's backends are called by everybody else"""

Opened = tuple[cv2.VideoCapture, Image]
"""An open capture and its first frame: one that opens but shows nothing does not count as open."""


@dataclass(frozen=True)
class Frame:
    """One picture of a source."""

    image: Image
    """(height, width, 3) uint8 BGR"""
    time: float
    """seconds: the position in a video file, the place in a folder (one image a second), or since a live start"""
    index: int
    """counts from 0; the gaps of a live source are the frames it dropped"""
    name: str
    """the image file, or the source"""
    captured: float
    """`time.monotonic()` when the frame was decoded, so that its age can be told"""
    segment: int = 0
    """counts up with every reconnect, change of size, and leap of a video's own clock: what is recorded in one piece
    must not span two"""


class Source(ABC):
    """Frames in order, once through. A context manager: leaving it releases the device or file."""

    live = False
    """whether frames come at their own pace and late ones are dropped"""
    dropped = 0
    """frames of a live source that nobody took in time"""
    skipped = 0
    """images of a folder that could not be read"""
    reconnects = 0
    """how often a live source was lost, or gave nothing new, and was opened anew"""
    note = ""
    """one line about what was not as it should be, known when the iteration has ended"""
    details = ""
    """one line about what was really got: size, rate, codec, and which library reads it; empty where it goes unsaid"""

    def __init__(self, name: str, fps: float) -> None:
        self.name = name
        """what to call it in messages: never with credentials"""
        self.fps = fps
        """frames a second as the source states them, 0 where it does not"""
        self._stopped = False
        self._finished = False
        self._segment = 0
        self._size: tuple[int, ...] = ()

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the end or `stop`; raises SourceError where a live source is lost."""

    def stop(self) -> None:
        """Let the iteration end before its next frame; harmless in a signal handler."""
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    @property
    def state(self) -> State:
        """How the source is, for a screen or a health check."""
        return "ended" if self._stopped or self._finished else "live"

    @property
    def trouble(self) -> str:
        """What is wrong with a live source now, in words; empty where nothing is."""
        return ""

    @property
    def repeated(self) -> int:
        """Frames of a live source that equalled the one before to the last bit."""
        return 0

    def _note_size(self, image: Image) -> None:
        """Begin a new segment where the picture has another size than the one before."""
        self._segment += self._size not in ((), image.shape[:2])
        self._size = image.shape[:2]

    def close(self) -> None:
        """Release what the source holds; may be called twice."""
        self.stop()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ImageFiles(Source):
    """Image files one after another; of several, an unreadable one is skipped and counted."""

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        super().__init__(name, fps=1.0)
        self._paths = paths

    def __iter__(self) -> Iterator[Frame]:
        first_problem = ""
        for index, path in enumerate(self._paths):
            if self._stopped:
                return
            try:
                image = read_image(path)
            except ImageError as error:
                self.skipped += 1
                first_problem = first_problem or str(error)
                self.note = f"skipped {self.skipped} of {len(self._paths)} images; the first: {first_problem}"
                continue
            self._note_size(image)
            yield Frame(image, float(index), index, path.name, time.monotonic(), self._segment)
        self._finished = True
        if self.skipped == len(self._paths):
            raise SourceError(f"{self.name}: none of its images can be read; the first: {first_problem}")


class VideoFile(Source):
    """Every frame of a video, with its time from the file's own clock."""

    def __init__(self, opened: Opened, name: str) -> None:
        self._capture, self._first = opened
        self._stated = self._capture.get(cv2.CAP_PROP_FPS)
        super().__init__(name, self._stated if 0 < self._stated <= HIGHEST_FPS else DEFAULT_FPS)
        self._clock = self._told = self._ahead = 0.0
        self._reading = threading.Lock()  # OpenCV may hang where one thread releases what another reads

    def __iter__(self) -> Iterator[Frame]:
        image: Image | None = self._first
        index, problem = 0, ""
        while image is not None and not self._stopped:
            self._note_size(image)
            seconds = self._tell_time(index)
            yield Frame(image, seconds, index, self.name, time.monotonic(), self._segment)
            index += 1
            try:
                with self._reading:
                    image = read(self._capture)
            except SourceError as error:
                image, problem = None, f"{self.name}: ended after {counted(index, 'frame')}: {error}"
        self._finished = True
        if not self._stopped:
            self.note = problem or self._shortfall(index)

    def _tell_time(self, index: int) -> float:
        """Seconds of the frame just read: the file's clock, except that it goes on where that one is set anew."""
        position = self._position(index)
        leapt = index > 0 and not -LEAP_BACK < position - self._clock < LEAP
        self._clock = position
        if leapt:
            self._segment += 1
            self._ahead = self._told + 1 / self.fps - position
        self._told = max(self._told, position + self._ahead)  # damaged files jump back a little
        return self._told

    def _position(self, index: int) -> float:
        """The file's own seconds of the frame just read; some keep no clock, or merely count at a rate of nonsense."""
        seconds = self._told_by_file(cv2.CAP_PROP_POS_MSEC) / 1000
        counts = self._stated > HIGHEST_FPS and abs(self._stated * seconds - index) < 1
        return seconds if math.isfinite(seconds) and seconds > 0 and not counts else index / self.fps

    def _shortfall(self, delivered: int) -> str:
        announced = self._told_by_file(cv2.CAP_PROP_FRAME_COUNT)  # a guess: huge, negative or half is possible
        if not delivered < FAR_SHORT * announced:
            return ""
        return (
            f"{self.name}: ended after {delivered} of about {announced:.0f} frames; "
            "it is cut off or damaged, copy it again if the rest matters"
        )

    def _told_by_file(self, what: int) -> float:
        with self._reading:
            return self._capture.get(what)

    def close(self) -> None:
        super().close()
        with self._reading:
            self._capture.release()


def read(capture: cv2.VideoCapture) -> Image | None:
    """The capture's next frame as (H, W, 3) uint8 BGR; None at its end, which is also how a loss looks.

    Raises SourceError where the decoder gives up, or gives what is no picture.
    """
    try:
        delivered, image = capture.read()
        return as_bgr(image) if delivered and image is not None and image.size else None
    except cv2.error as error:
        raise SourceError(f"the decoder gave up ({in_words(error)})") from error
    except ImageError as error:
        raise SourceError(str(error)) from error


def with_first_frame(capture: cv2.VideoCapture) -> Opened | None:
    """The capture and its first frame; None, and released, where it is not open or gives none."""
    image = None
    with contextlib.suppress(SourceError):
        image = read(capture) if capture.isOpened() else None
    if image is None:
        capture.release()
        return None
    return capture, image


def described(opened: Opened) -> str:
    """What an open capture really gives: size, rate, codec, and the library that reads it."""
    capture, image = opened
    fps, code = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FOURCC))
    codec = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24)) if code > 0 else ""
    parts = [
        f"{image.shape[1]}x{image.shape[0]}",
        f"{fps:.4g} fps" if math.isfinite(fps) and 0 < fps <= 1000 else "",
        codec if codec.isascii() and codec.isprintable() else "",
        f"read by {LIBRARIES.get(name := capture.getBackendName(), name)}",
    ]
    return ", ".join(part.strip() for part in parts if part)


def in_words(error: Exception) -> str:
    """An error on one line, cut before any URL, which may hold a password. Our own messages hold none."""
    if isinstance(error, IernError):
        return str(error)
    return one_line(IernError(re.sub(r"\w*://.*", "...", f"{type(error).__name__}: {error}", flags=re.DOTALL)))
