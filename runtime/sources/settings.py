"""What a user may ask of a source beyond its name. Imports no OpenCV, so that the command line can read it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

PIXELS = {"bgr24": 3, "rgb24": 3, "bgra": 4, "gray": 1}
"""Raw pixel layouts, by FFmpeg's names, and their bytes a pixel."""


@dataclass(frozen=True)
class LiveTimeouts:
    """For how many seconds a live source may be unwell before something is done about it."""

    silent: float = 4.0
    """Without a frame: it counts as stalled and is opened anew."""
    same: float = 30.0
    """Black, or the same picture to the last bit: it is said, and the source is opened anew, after twice as long each
    time that changed nothing. Sensors have noise, but video coders may drop it for seconds, and test cards for ever."""
    stuck: float = 15.0
    """An opening or a read that does not come back is left behind; longer than the time-outs of OpenCV's backends."""
    give_up: float = math.inf
    """Lost and not back: the source ends with an error. 0 never opens anew."""


@dataclass(frozen=True)
class RawFormat:
    """Frames without any header, as `ffmpeg -f rawvideo` writes them."""

    width: int
    height: int
    pixels: str = "bgr24"

    @property
    def size(self) -> int:
        """Bytes of one frame."""
        return self.width * self.height * PIXELS[self.pixels]


@dataclass(frozen=True)
class SourceSettings:
    """What is asked of a source; None leaves it to the source."""

    size: tuple[int, int] | None = None
    """Width and height of a camera's picture, in pixels."""
    fps: float | None = None
    """Frames a second of a camera or of raw frames."""
    codec: str | None = None
    """What a camera shall send: MJPG, YUYV, ..."""
    stdin_format: RawFormat | None = None
    patience: LiveTimeouts = LiveTimeouts()


def parse_size(text: str) -> tuple[int, int]:
    """`640x480` -> (640, 480); raises ValueError."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not match:
        raise ValueError(f"expected WIDTHxHEIGHT as in 640x480, found {text!r}")
    return int(match[1]), int(match[2])


def parse_raw_format(text: str) -> RawFormat:
    """`640x480:bgr24` -> RawFormat; raises ValueError."""
    size, _, pixels = text.partition(":")
    if pixels not in PIXELS:
        raise ValueError(f"expected WIDTHxHEIGHT:PIXELS with PIXELS one of {', '.join(PIXELS)}, found {text!r}")
    return RawFormat(*parse_size(size), pixels)
