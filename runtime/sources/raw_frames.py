"""Raw frames from another program through a pipe. None is dropped: the program waits until a frame is read."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator

import cv2
import numpy as np

from iern.runtime.errors import SourceError
from iern.runtime.imaging.images import Image
from iern.runtime.sources.base import Frame, Source
from iern.runtime.sources.files import DEFAULT_FPS
from iern.runtime.sources.settings import BYTES_PER_PIXEL, RawFormat
from iern.runtime.system.latency import counted

LONGEST_LINE = 400
"""Bytes of a stream's beginning that are searched for a line of text."""

TO_BGR = {"rgb24": cv2.COLOR_RGB2BGR, "bgra": cv2.COLOR_BGRA2BGR, "gray": cv2.COLOR_GRAY2BGR}


class RawFrames(Source):
    """Frames of one size without a header. The time of a frame is its number over the rate."""

    def __init__(self, descriptor: int, layout: RawFormat, fps: float | None) -> None:
        """`descriptor` is an open file, which the caller closes. Raises SourceError if it is a terminal."""
        super().__init__("stdin", fps or DEFAULT_FPS)
        if os.isatty(descriptor):
            raise SourceError(
                "stdin is a terminal; pipe frames into it, as from: ffmpeg -i FILE -f rawvideo -pix_fmt "
                f"{layout.pixels} -s {layout.width}x{layout.height} -"
            )
        self.details = f"{layout.width}x{layout.height} {layout.pixels}, {self.fps:g} fps"
        self._descriptor = descriptor
        self._layout = layout

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while len(data := self._read()) == self._layout.size:
            if not index:
                _refuse_text(data)
            yield Frame(as_image(data, self._layout), index / self.fps, index, self.name, time.monotonic())
            index += 1
        self._finished = True
        if self._stopped:
            return
        rest = f"{len(data)} of {self._layout.size} bytes"
        if not index:
            raise SourceError(
                f"stdin: ended before the first frame ({rest}); check --stdin-format and the program that writes"
            )
        if data:
            raise SourceError(
                f"stdin: ended in the middle of a frame, after {counted(index, 'whole frame')} ({rest}). If the "
                "program was not stopped there, its frames have another size, or its messages are among them and shift "
                "all frames behind them; check --stdin-format, and let it write pixels alone to the pipe"
            )

    def _read(self) -> bytes:
        """The bytes of one frame; fewer at the end, or after `stop`."""
        data = bytearray()
        while len(data) < self._layout.size and not self._stopped:
            if not select.select([self._descriptor], [], [], 0.1)[0]:  # bounded, so that `stop` is noticed
                continue
            part = os.read(self._descriptor, self._layout.size - len(data))
            if not part:
                break
            data += part
        return bytes(data)


def _refuse_text(data: bytes) -> None:
    """Raise SourceError if the first bytes of a stream are a program's words: they would shift every frame."""
    line, line_end, _ = data[:LONGEST_LINE].partition(b"\n")
    if line_end and _is_sentence(line.rstrip(b"\r").decode("ascii", "replace")):
        raise SourceError(
            f"stdin: begins with text and not with pixels ({line[:40].decode()!r}); let the program write its messages "
            "elsewhere, as in: gst-launch-1.0 -q ... ! fdsink fd=3 3>&1 1>&2 | webcam.py --source - ..."
        )


def _is_sentence(words: str) -> bool:
    """Whether a line is made of words: printable, with blanks, and mostly of small letters."""
    small = sum(letter.islower() for letter in words)
    return words.isascii() and words.isprintable() and " " in words and len(set(words)) > 5 and small > len(words) / 2


def as_image(data: bytes, layout: RawFormat) -> Image:
    """The bytes of one frame -> (H, W, 3) uint8 BGR, writable."""
    shape = (layout.height, layout.width, BYTES_PER_PIXEL[layout.pixels])
    raw = np.frombuffer(data, np.uint8).reshape(shape)
    return raw.copy() if layout.pixels == "bgr24" else cv2.cvtColor(raw, TO_BGR[layout.pixels])
