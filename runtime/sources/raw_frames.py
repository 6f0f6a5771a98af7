"""Raw frames from another program through a pipe: every one of them, for the pipe holds its writer back."""

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
from iern.runtime.sources.settings import PIXELS, RawFormat
from iern.runtime.system.latency import counted

TO_BGR = {"rgb24": cv2.COLOR_RGB2BGR, "bgra": cv2.COLOR_BGRA2BGR, "gray": cv2.COLOR_GRAY2BGR}


class RawFrames(Source):
    """Frames of one size without any header; their time is their number over the rate."""

    def __init__(self, descriptor: int, layout: RawFormat, fps: float | None) -> None:
        """`descriptor`: an open file, which stays its owner's. Raises SourceError where a person types into it."""
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
            yield Frame(as_picture(data, self._layout), index / self.fps, index, self.name, time.monotonic())
            index += 1
        self._finished = True
        if self._stopped:
            return
        rest = f"{len(data)} of {self._layout.size} bytes"
        if not index:
            raise SourceError(f"stdin: ended before the first frame ({rest}); check --stdin-format and what writes it")
        if data:
            self.note = f"stdin: ended in the middle of a frame, after {counted(index, 'whole one')} ({rest})"

    def _read(self) -> bytes:
        """One frame's bytes; fewer at the end, or after `stop`."""
        data = bytearray()
        while len(data) < self._layout.size and not self._stopped:
            if not select.select([self._descriptor], [], [], 0.1)[0]:  # bounded, so that `stop` is noticed
                continue
            part = os.read(self._descriptor, self._layout.size - len(data))
            if not part:
                break
            data += part
        return bytes(data)


def as_picture(data: bytes, layout: RawFormat) -> Image:
    """One frame's bytes -> (H, W, 3) uint8 BGR, writable."""
    shape = (layout.height, layout.width, PIXELS[layout.pixels])
    raw = np.frombuffer(data, np.uint8).reshape(shape)
    return raw.copy() if layout.pixels == "bgr24" else cv2.cvtColor(raw, TO_BGR[layout.pixels])
