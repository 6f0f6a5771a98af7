"""Records the annotated frames as a video, each with its own time, in a file that plays at any moment.

The file has its final name from the first frame on. After SIGKILL all but the last few frames are in it. The module
can be imported without PyAV; a recording needs it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from iern.runtime.errors import OutputError
from iern.runtime.imaging.images import Image
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.system.append_only_file import refuse_if_in_use

if TYPE_CHECKING:
    from iern.runtime.outputs.video.container import VideoContainer
    from iern.runtime.outputs.video.sound import Sound


LONGEST_GAP = 30.0
"""Seconds without a frame after which a live source begins a new file: it was lost, or its clock jumped."""
LONGEST_BACKSTEP = 0.5
"""Seconds that a live source's clock may go back within a file."""
LARGEST_BYTES = 2_000_000_000
"""Bytes of a file. The FAT file system of an SD card holds 4 GiB at most."""
LONGEST_SECONDS = 6 * 3600.0
"""Seconds of a file. An MP4's clock overflows after 13 hours."""
SMALLEST_SCALE = 0.5
"""A picture of a folder is fitted into the size of the file, unless that would shrink it to less than this."""
SHORTEST_STEP = 0.001
"""Least seconds between frames, so that the recording's clock advances even if the source's does not."""


@contextlib.contextmanager
def recording(path: Path, fps: float, sound_of: Path | None = None) -> Iterator[Sink]:
    """A sink that records the annotated frames, each with its own time. Without frames there is no file.

    `fps` is the source's rate, 0 for a live source. `sound_of` is the video file that gives the frames: its sound is
    copied, if the format of `path` may hold it. The recording continues in NAME-001.EXT, and prints that, when the size
    of a live source's frames changes, when the source came back after a loss, when its clock jumps, and when a file has
    grown large. Raises OutputError and OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)  # if the path cannot be used, fail before the first frame
    if path.is_fifo() or path.is_dir():
        raise OutputError(f"{path}: is not a file; a recording needs one, since its head is written again at the end")
    refuse_if_in_use(path)
    if importlib.util.find_spec("av") is None:
        raise OutputError(f"{path}: a recording needs PyAV, which is not installed; pip install av")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path}: {path.parent} may not be written to; choose another folder")
    recorder = Recorder(path, fps, sound_of)
    try:
        yield recorder.add
    finally:
        recorder.close()


class Recorder:
    """Writes the files of one recording, one after the other."""

    def __init__(self, path: Path, fps: float, sound_of: Path | None = None) -> None:
        self.paths: list[Path] = []
        """The files begun until now."""
        self._path, self._fps, self._live = path, fps, not fps
        self._sound_of = sound_of
        self._sound: Sound | None = None
        self._container: VideoContainer | None = None
        self._segment, self._shape = 0, (0, 0)
        self._origin = self._last = 0.0

    def add(self, result: FrameResult) -> None:
        """Record a frame. Raises OSError if it cannot be written, and OutputError if it cannot be encoded."""
        image = result.annotated
        reason = self._reason_for_new_file(result, image)
        if self._container is None or reason:
            self._begin(image, reason, result)
            self._origin, self._last = result.frame.time, -SHORTEST_STEP
        self._segment, self._shape = result.frame.segment, image.shape[:2]
        assert self._container is not None
        seconds = max(result.frame.time - self._origin, self._last + SHORTEST_STEP)
        self._container.add(_fitted(image, self._container.width, self._container.height), seconds)
        self._last = seconds

    def close(self) -> None:
        """Finish the current file. On a full disk it stays without an index, and a warning is printed."""
        container, self._container = self._container, None
        sound, self._sound = self._sound, None
        try:
            if container is not None:
                container.close()
        except OSError as error:
            text = f"warning: {self.paths[-1]}: has no index ({error.strerror}); it plays, but seeks slowly"
            print(text, file=sys.stderr, flush=True)
        finally:
            if sound is not None:
                sound.close()

    def _reason_for_new_file(self, result: FrameResult, image: Image) -> str:
        """Why this frame begins another file. Empty if it does not."""
        if self._container is None:
            return ""
        width, height = self._container.width, self._container.height
        seconds = result.frame.time - self._origin
        resized = image.shape[:2] != self._shape
        if image.shape[:2] != (height, width) and (self._live or _scale(image, width, height) < SMALLEST_SCALE):
            return f"frames changed from {width}x{height} to {image.shape[1]}x{image.shape[0]}"
        if result.frame.segment != self._segment and (self._live or not resized):
            return "the source came back, or its clock was reset"
        if self._live and not -LONGEST_BACKSTEP <= seconds - self._last <= LONGEST_GAP:
            return f"the source's clock jumped by {seconds - self._last:.0f} s"
        if self._container.size > LARGEST_BYTES or seconds > LONGEST_SECONDS:
            return "the file has grown large"
        return ""

    def _begin(self, image: Image, reason: str, result: FrameResult) -> None:
        from iern.runtime.outputs.video.container import VideoContainer  # late, as above

        self.close()
        stem = self._path.stem + (f"-{len(self.paths):03d}" if self.paths else "")
        path = self._path.with_name(stem + self._path.suffix)
        if reason:
            print(f"note: {reason}: the recording continues in {path}", flush=True)
        height, width = image.shape[:2]
        self._sound = self._open_sound(path, result)
        self._container = VideoContainer(path, width, height, self._fps, self._sound)
        self.paths.append(path)

    def _open_sound(self, path: Path, result: FrameResult) -> Sound | None:
        """The sound from this frame on. None after the video's clock has jumped: its times are not the frames' then."""
        if self._sound_of is None or result.frame.segment:
            return None
        from iern.runtime.outputs.video.sound import sound_for  # late, as above

        sound, problem = sound_for(path, self._sound_of, result.frame.time)
        if problem:
            print(f"note: {path}: {problem}", flush=True)
        return sound


def _scale(image: Image, width: int, height: int) -> float:
    """The factor by which the picture fits into (width, height)."""
    return min(width / image.shape[1], height / image.shape[0])


def _fitted(image: Image, width: int, height: int) -> Image:
    """The picture at (height, width). Its aspect is kept, and the rest is black."""
    if image.shape[:2] == (height, width):
        return image
    scale = _scale(image, width, height)
    inner = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    canvas = np.zeros((height, width, 3), np.uint8)
    x, y = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[y : y + inner[1], x : x + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    return canvas
