"""Finite sources: image files and video files, which give every frame."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from iern.runtime.errors import ImageError, SourceError
from iern.runtime.imaging.images import Image, load_image
from iern.runtime.imaging.notes import ImageNotes
from iern.runtime.sources.base import Frame, Source
from iern.runtime.sources.capture import OpenCapture, TimedCapture, read_frame
from iern.runtime.system.latency import counted

COMPLETE_SHARE = 0.9
"""A video that delivers less than this share of the frames it announces is reported as cut off or damaged."""

DEFAULT_FPS = 25.0
"""Frames a second of a video file that states no rate, or an impossible one: 0, or the 90,000 ticks of its clock."""

HIGHEST_FPS = 1000.0
"""A higher stated rate is not believed."""

JUMP_AHEAD, JUMP_BACK = 3600.0, 1.0
"""Seconds. If a video's clock jumps further than this, it was reset, and a new segment begins."""


class ImageFiles(Source):
    """Image files one after another. An unreadable one among several is skipped and counted."""

    def __init__(self, paths: Sequence[Path], name: str, folder: Path, others: Sequence[Path] = ()) -> None:
        """A frame's name is the path of its file in `folder`. `others` are files there that are no images."""
        super().__init__(name, fps=1.0)
        self._paths, self._folder = paths, folder
        self._notes = ImageNotes(len(paths), [self._name_of(path) for path in others])
        self.note = self._notes.text()

    def _name_of(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self._paths):
            if self._stopped:
                return
            try:
                file = load_image(path)
            except ImageError as error:
                self.skipped += 1
                self._notes.add_unreadable(error)
                self.note = self._notes.text()
                continue
            name = self._name_of(path)
            self._notes.add(name, file)
            self.note = self._notes.text()
            self._update_segment(file.image)
            now = time.monotonic()
            yield Frame(file.image, float(index), index, name, now, segment=self._segment, photograph=True)
        self._finished = True
        if self.skipped == len(self._paths):
            raise SourceError(f"{self.name}: none of its images can be read; the first: {self._notes.first_unreadable}")


class VideoFile(Source):
    """Every frame of a video, with its time by the file's own clock."""

    def __init__(self, opened: OpenCapture, name: str) -> None:
        self._capture, self._first = opened
        self._stated_fps = self._capture.get(cv2.CAP_PROP_FPS)
        super().__init__(name, self._stated_fps if 0 < self._stated_fps <= HIGHEST_FPS else DEFAULT_FPS)
        self._file_time = self._time = self._offset = 0.0
        self._capture_lock = threading.Lock()  # OpenCV may hang if one thread releases a capture that another reads

    def __iter__(self) -> Iterator[Frame]:
        image: Image | None = self._first
        index, problem = 0, ""
        while image is not None and not self._stopped:
            self._update_segment(image)
            seconds = self._advance_time(index)
            yield Frame(image, seconds, index, self.name, time.monotonic(), self._segment)
            index += 1
            try:
                with self._capture_lock:
                    image = read_frame(self._capture)
            except SourceError as error:
                image, problem = None, f"{self.name}: ended after {counted(index, 'frame')}: {error}"
        self._finished = True
        if not self._stopped:
            self.note = problem or self._early_end(index) or self._damage(index)

    def _advance_time(self, index: int) -> float:
        """Seconds of the frame just read: the file's clock, which continues by one frame when it was reset."""
        file_time = self._read_file_time(index)
        jumped = index > 0 and not -JUMP_BACK < file_time - self._file_time < JUMP_AHEAD
        self._file_time = file_time
        if jumped:
            self._segment += 1
            self._offset = self._time + 1 / self.fps - file_time
        self._time = max(self._time, file_time + self._offset)  # damaged files jump back a little
        return self._time

    def _read_file_time(self, index: int) -> float:
        """Seconds of the frame just read, by the file's clock; by its index if the file has no usable clock."""
        seconds = self._property(cv2.CAP_PROP_POS_MSEC) / 1000
        counts_frames = self._stated_fps > HIGHEST_FPS and abs(self._stated_fps * seconds - index) < 1
        return seconds if math.isfinite(seconds) and seconds > 0 and not counts_frames else index / self.fps

    def _early_end(self, delivered: int) -> str:
        """Why the video counts as cut off; empty if it does not."""
        announced = self._property(cv2.CAP_PROP_FRAME_COUNT)  # a guess: it may be huge, negative or half
        length = self._capture.seconds if isinstance(self._capture, TimedCapture) else announced / self.fps
        # By its time stamps: a video whose rate varies may have far fewer frames than its usual rate announces.
        if not self._file_time + 1 / self.fps < COMPLETE_SHARE * length:
            return ""
        part = (
            f"{delivered} of about {announced:.0f} frames" if announced > 0 else f"{self._time:.1f} of {length:.1f} s"
        )
        return f"{self.name}: ended after {part}; it is cut off or damaged; copy it again if you need the rest"

    def _damage(self, delivered: int) -> str:
        """How much could not be decoded; empty if all could be."""
        damaged = self._capture.damaged if isinstance(self._capture, TimedCapture) else 0
        lost = max(damaged, round(self._property(cv2.CAP_PROP_FRAME_COUNT)) - delivered)  # some fail without an error
        skipped = f"{self.name}: skipped {counted(lost, 'damaged frame')}; copy it again if you need them"
        return skipped if damaged else ""

    def _property(self, number: int) -> float:
        """A property of the capture, by OpenCV's number."""
        with self._capture_lock:
            return self._capture.get(number)

    def close(self) -> None:
        super().close()
        with self._capture_lock:
            self._capture.release()
