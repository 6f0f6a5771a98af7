"""The settings of a source beyond its name. Imports no OpenCV, so that the command line can read them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

BYTES_PER_PIXEL = {"bgr24": 3, "rgb24": 3, "bgra": 4, "gray": 1}
"""FFmpeg's name of a raw pixel layout -> bytes a pixel."""


@dataclass(frozen=True)
class LiveTimeouts:
    """How many seconds a live source may be in a bad state before it is reopened or given up."""

    no_frames: float = 4.0
    """Without a frame: the source counts as stalled and is reopened."""
    frozen: float = 30.0
    """Black, or exactly equal frames: the source is reopened. The time doubles with each attempt that changes nothing.
    A sensor has noise, but a video coder may drop it for seconds, and a test card has none."""
    blocked: float = 15.0
    """An opening or a read that does not return is abandoned. Longer than the time-outs of OpenCV's backends."""
    give_up: float = math.inf
    """Lost: the source ends with an error. At 0 it is never reopened."""


@dataclass(frozen=True)
class RawFormat:
    """The format of frames without a header, as `ffmpeg -f rawvideo` writes them."""

    width: int
    height: int
    pixels: str = "bgr24"

    @property
    def size(self) -> int:
        """Bytes of one frame."""
        return self.width * self.height * BYTES_PER_PIXEL[self.pixels]


@dataclass(frozen=True)
class SourceSettings:
    """What the user requests of a source. None leaves it to the source."""

    size: tuple[int, int] | None = None
    """Width and height of a camera's frames, in pixels."""
    fps: float | None = None
    """Frames a second of a camera or of raw frames."""
    codec: str | None = None
    """The codec of a camera: MJPG, YUYV, ..."""
    stdin_format: RawFormat | None = None
    timeouts: LiveTimeouts = LiveTimeouts()


def parse_size(text: str) -> tuple[int, int]:
    """`640x480` -> (640, 480). Raises ValueError."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not match:
        raise ValueError(f"expected WIDTHxHEIGHT as in 640x480, found {text!r}")
    return int(match[1]), int(match[2])


def parse_raw_format(text: str) -> RawFormat:
    """`640x480:bgr24` -> RawFormat. Raises ValueError."""
    size, _, pixels = text.partition(":")
    if pixels not in BYTES_PER_PIXEL:
        raise ValueError(
            f"expected WIDTHxHEIGHT:PIXELS with PIXELS one of {', '.join(BYTES_PER_PIXEL)}, found {text!r}"
        )
    return RawFormat(*parse_size(size), pixels)
