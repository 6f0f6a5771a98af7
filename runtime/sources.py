"""Where frames come from: image files and video files give every frame, live sources the latest one only."""

from __future__ import annotations

import atexit
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from iern.runtime.errors import ImageError, SourceError
from iern.runtime.images import Image, as_bgr, read_image

FAR_SHORT = 0.9
"""A video that delivers less than this part of the frames it announces is reported as cut off or damaged."""

DEFAULT_FPS = 25.0
"""Frames a second where a video file does not say, or says nonsense."""

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


class Source(ABC):
    """Frames in order, once through. A context manager: leaving it releases the device or file."""

    live = False
    """whether frames come at their own pace and late ones are dropped"""
    dropped = 0
    """frames of a live source that nobody took in time"""
    skipped = 0
    """images of a folder that could not be read"""
    note = ""
    """one line about what was not as it should be, known when the iteration has ended"""

    def __init__(self, name: str, fps: float) -> None:
        self.name = name
        """what to call it in messages: never with credentials"""
        self.fps = fps
        """frames a second as the source states them, 0 where it does not"""
        self._stopped = False

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
            yield Frame(image, float(index), index, path.name, time.monotonic())
        if self.skipped == len(self._paths):
            raise SourceError(f"{self.name}: none of its images can be read; the first: {first_problem}")


class VideoFile(Source):
    """Every frame of a video, with its time from the file's own clock."""

    def __init__(self, opened: Opened, name: str) -> None:
        self._capture, self._first = opened
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        super().__init__(name, fps if math.isfinite(fps) and 0 < fps <= 1000 else DEFAULT_FPS)

    def __iter__(self) -> Iterator[Frame]:
        image: Image | None = self._first
        index, seconds = 0, 0.0
        while image is not None and not self._stopped:
            seconds = max(seconds, self._position(index))  # damaged files jump back
            yield Frame(image, seconds, index, self.name, time.monotonic())
            index += 1
            image = read(self._capture)
        if not self._stopped:
            self.note = self._shortfall(index)

    def _position(self, index: int) -> float:
        """Seconds of the frame just read; some containers keep no clock, and then all frames stand at 0."""
        milliseconds = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        return milliseconds / 1000 if math.isfinite(milliseconds) and milliseconds > 0 else index / self.fps

    def _shortfall(self, delivered: int) -> str:
        announced = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)  # a guess: huge, negative or half is possible
        if not delivered < FAR_SHORT * announced:
            return ""
        return (
            f"{self.name}: ended after {delivered} of about {announced:.0f} frames; "
            "it is cut off or damaged, copy it again if the rest matters"
        )

    def close(self) -> None:
        super().close()
        self._capture.release()


class LiveSource(Source):
    """The latest frame of a camera or stream: a thread of its own reads, and what nobody took in time is dropped.

    A device that is read too slowly queues frames and shows the past; here it is always read at its own pace.
    """

    live = True

    def __init__(self, opened: Opened, name: str) -> None:
        capture, image = opened
        fps = capture.get(cv2.CAP_PROP_FPS)
        super().__init__(name, fps if math.isfinite(fps) and 0 < fps <= 240 else 0.0)
        self._arrival = threading.Condition()
        self._latest: Frame | None = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._receive, args=(capture, image), name=name, daemon=True)
        self._thread.start()
        atexit.register(self.close)  # Python ending under a thread that is inside OpenCV aborts the process

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._take()) is not None:
            yield frame

    def _take(self) -> Frame | None:
        """Wait for a frame nobody has had yet; None after `stop`. Raises what ended the source."""
        with self._arrival:
            while self._latest is None and self._failure is None and not self._stopped:
                self._arrival.wait(0.1)  # bounded, since `stop` in a signal handler cannot notify
            frame, self._latest = self._latest, None
            if self._stopped:
                return None
            if frame is None and self._failure is not None:
                raise self._failure
            return frame

    def _receive(self, capture: cv2.VideoCapture, image: Image) -> None:
        """The thread: read until stopped or lost, and release the capture where it was read."""
        try:
            self._read_on(capture, image)
        except Exception as error:  # whatever it is belongs to the reader of the frames, not to this thread's log
            with self._arrival:
                self._failure = error
                self._arrival.notify()
        finally:
            capture.release()

    def _read_on(self, capture: cv2.VideoCapture, image: Image) -> None:
        start, index = time.monotonic(), 0
        while not self._stopped:
            captured = time.monotonic()
            self._hand_over(Frame(image, captured - start, index, self.name, captured))
            following = read(capture)
            if following is None:
                raise SourceError(
                    f"{self.name}: lost after {index + 1} frames ({captured - start:.1f} s); "
                    "check its cable, power and network, then start again"
                )
            image, index = following, index + 1

    def _hand_over(self, frame: Frame) -> None:
        with self._arrival:
            self.dropped += self._latest is not None
            self._latest = frame
            self._arrival.notify()

    def close(self) -> None:
        """Waits for a read under way: seconds where the device has gone silent, until its time-out."""
        super().close()
        self._thread.join()
        atexit.unregister(self.close)


def read(capture: cv2.VideoCapture) -> Image | None:
    """The capture's next frame as (H, W, 3) uint8 BGR; None at its end, which is also how a loss looks."""
    try:
        delivered, image = capture.read()
    except cv2.error:  # a decoder that gives up
        return None
    return as_bgr(image) if delivered and image is not None and image.size else None
