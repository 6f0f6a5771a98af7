"""The finite sources: image files and video files give every frame."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from iern.runtime.errors import ImageError, SourceError
from iern.runtime.imaging.images import Image, read_image
from iern.runtime.sources.base import Frame, Source
from iern.runtime.sources.capture import OpenCapture, read
from iern.runtime.system.latency import counted

FAR_SHORT = 0.9
"""A video that delivers less than this part of the frames it announces is reported as cut off or damaged."""

DEFAULT_FPS = 25.0
"""Frames a second where a video file does not say, or says nonsense: 0, or its clock's 90,000 ticks."""

HIGHEST_FPS = 1000.0

LEAP, LEAP_BACK = 3600.0, 1.0
"""Seconds: the clock of a video that goes so far ahead, or back, was set anew, and what records it begins anew too."""


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

    def __init__(self, opened: OpenCapture, name: str) -> None:
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
