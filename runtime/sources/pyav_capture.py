"""Video files through PyAV: every codec of FFmpeg, deinterlaced, upright, and read on after damage.

OpenCV's own reader leaves the buffer of an interlaced frame unfilled, ends at the first damaged packet, and crashes on
a path that is not UTF-8. `PyAvCapture` is used as `cv2.VideoCapture` is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.filter import Graph
from av.video.frame import VideoFrame

from iern.runtime.errors import SourceError
from iern.runtime.imaging.formats import kind_of_file
from iern.runtime.imaging.images import Image
from iern.runtime.sources.capture import error_without_url
from iern.runtime.system.cpu_budget import cpu_budget

MOST_DAMAGED = 250
"""Packets in a row that may fail to decode, ten seconds of usual video. After more of them the rest is given up."""

TIMEOUT = 5.0
"""Seconds to wait for a server, when a video is opened and for each read."""

TITLES_IN_ANY_ENCODING: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)
"""A title that is not UTF-8 must not stop the reading. From version 19 on PyAV has no such option, and reads on."""

TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
"""Degrees counterclockwise in the file's display matrix -> OpenCV's code."""


class PyAvCapture:
    """`read()` -> (True, (H, W, 3) uint8 BGR) for each frame, then (False, None). It belongs to one thread."""

    def __init__(self, source: Path | str) -> None:
        """Open a file by its path, or a video on a server by its URL. Raises SourceError if there is no video in it."""
        self.damaged = 0
        """Packets that could not be decoded."""
        self._resources = contextlib.ExitStack()
        try:
            self._container: InputContainer = self._open(source)
            stream = self._container.streams.best("video")
            if stream is None:
                raise SourceError("it has no video stream")
            self._stream = stream
            stream.codec_context.thread_type = "AUTO"
            stream.codec_context.thread_count = cpu_budget()
        except (av.FFmpegError, OSError, ValueError) as error:
            self._resources.close()
            raise SourceError(getattr(error, "strerror", None) or error_without_url(error)) from error
        except BaseException:
            self._resources.close()
            raise
        self._frames = _deinterlaced(self._decoded())
        self._start = float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0
        self._seconds = 0.0
        self._open_now = True

    def isOpened(self) -> bool:
        """Whether it was not released."""
        return self._open_now

    def read(self) -> tuple[bool, Image | None]:
        """The next frame, upright; (False, None) at the end or after a released capture."""
        frame = next(self._frames, None) if self._open_now else None
        if frame is None:
            return False, None
        self._seconds = frame.time - self._start if frame.time is not None else 0.0
        return True, _upright(frame)

    def get(self, what: int) -> float:
        """One of OpenCV's properties: the rate, the number of frames, the codec, the position in milliseconds."""
        if what == cv2.CAP_PROP_FPS:
            rate = self._stream.average_rate or self._stream.guessed_rate
            return float(rate) if rate else 0.0
        if what == cv2.CAP_PROP_FRAME_COUNT:
            return float(self._stream.frames)
        if what == cv2.CAP_PROP_FOURCC:
            tag = self._stream.codec_context.codec_tag.encode("latin-1", "replace")[:4]
            return float(int.from_bytes(tag, "little")) if len(tag) == 4 else 0.0
        return 1000 * self._seconds if what == cv2.CAP_PROP_POS_MSEC else 0.0

    @property
    def seconds(self) -> float:
        """The length that the file states for its video; 0 if it states none."""
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        if stated := _seconds_of_tag(self._stream.metadata.get("DURATION", "")):
            return stated
        alone = len(self._container.streams) == 1  # otherwise it may be that of a longer sound track
        return self._container.duration / av.time_base if alone and self._container.duration else 0.0

    def getBackendName(self) -> str:
        """The library that decodes."""
        return "FFMPEG"

    def release(self) -> None:
        """Close the file. May be called twice."""
        self._open_now = False
        self._frames.close()
        self._resources.close()

    def _open(self, source: Path | str) -> InputContainer:
        """FFmpeg takes names in UTF-8 only, so a file is opened here and read through its object."""
        file = source if isinstance(source, str) else self._resources.enter_context(source.open("rb"))
        # FFmpeg goes by the name too: of a row of JPEGs that is called .jpg it shows only the first.
        format_name = "mjpeg" if isinstance(source, Path) and kind_of_file(source) == "JPEG" else None
        opened = av.open(file, "r", format=format_name, timeout=TIMEOUT, **TITLES_IN_ANY_ENCODING)
        return self._resources.enter_context(opened)

    def _decoded(self) -> Iterator[VideoFrame]:
        """The frames as they are decoded. A damaged packet is counted and left out."""
        failed = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:  # the container itself is cut off here
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.FFmpegError:
                failed += 1
                self.damaged += 1
                if failed > MOST_DAMAGED:
                    return
                continue
            failed = 0
            yield from (frame for frame in frames if isinstance(frame, VideoFrame))


def _deinterlaced(frames: Iterator[VideoFrame]) -> Generator[VideoFrame, None, None]:
    """The same frames, each interlaced one made progressive: both fields are shown at one moment.

    The filter looks at the frame before and the one after, so that its output is one frame late.
    """
    deinterlacer: Graph | None = None
    layout = None
    for frame in frames:
        now = frame.width, frame.height, frame.format.name
        if deinterlacer is not None and now != layout:
            yield from _flushed(deinterlacer)
            deinterlacer = None
        if deinterlacer is None:
            if not frame.interlaced_frame:
                yield frame
                continue
            deinterlacer, layout = _make_deinterlacer(frame), now
        deinterlacer.push(frame)
        yield from _pulled(deinterlacer)
    if deinterlacer is not None:
        yield from _flushed(deinterlacer)


def _make_deinterlacer(frame: VideoFrame) -> Graph:
    graph = Graph()
    nodes = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph


def _pulled(graph: Graph) -> Iterator[VideoFrame]:
    with contextlib.suppress(av.BlockingIOError, av.EOFError):
        while True:
            frame = graph.pull()
            assert isinstance(frame, VideoFrame)
            yield frame


def _flushed(graph: Graph) -> Iterator[VideoFrame]:
    graph.push(None)
    yield from _pulled(graph)


def _seconds_of_tag(text: str) -> float:
    """`00:00:10.400000000`, as Matroska files tag their streams -> 10.4; 0 for anything else."""
    parts = text.split(":")
    with contextlib.suppress(ValueError):
        hours, minutes, seconds = map(float, parts)
        return 3600 * hours + 60 * minutes + seconds
    return 0.0


def _upright(frame: VideoFrame) -> Image:
    image = frame.to_ndarray(format="bgr24")
    turn = TURNS.get(round(frame.rotation) % 360)
    return np.ascontiguousarray(image if turn is None else cv2.rotate(image, turn))
