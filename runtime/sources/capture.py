"""OpenCV's captures: reading frames, reporting errors as SourceError, and describing an open capture."""

from __future__ import annotations

import contextlib
import math
import re
from typing import Protocol, runtime_checkable

import cv2

from iern.runtime.errors import IernError, ImageError, SourceError, one_line
from iern.runtime.imaging.images import Image, as_bgr

LIBRARY_NAMES = {"FFMPEG": "FFmpeg", "GSTREAMER": "GStreamer"}
"""OpenCV's names of its backends -> their usual names."""


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that a source needs."""

    def isOpened(self) -> bool: ...
    def read(self) -> tuple[bool, Image | None]: ...
    def get(self, what: int, /) -> float: ...
    def getBackendName(self) -> str: ...
    def release(self) -> None: ...


@runtime_checkable
class TimedCapture(Capture, Protocol):
    """A capture of a file, which knows its length and what was damaged."""

    damaged: int
    """Packets that could not be decoded."""

    @property
    def seconds(self) -> float:
        """The stated length; 0 if none is stated."""


OpenCapture = tuple[Capture, Image]
"""An open capture and its first frame. A capture without a first frame does not count as open."""


def read_frame(capture: Capture) -> Image | None:
    """Read the next frame as (H, W, 3) uint8 BGR. None at the end, and when the connection is lost.

    Raises SourceError if the decoder fails, or returns something that is no image.
    """
    try:
        delivered, image = capture.read()
        return as_bgr(image) if delivered and image is not None and image.size else None
    except cv2.error as error:
        raise SourceError(f"the decoder failed ({error_without_url(error)})") from error
    except ImageError as error:
        raise SourceError(str(error)) from error


def read_first_frame(capture: Capture) -> OpenCapture | None:
    """Read the first frame of a capture. Returns None, and releases it, if it is not open or gives no frame."""
    image = None
    with contextlib.suppress(SourceError):
        image = read_frame(capture) if capture.isOpened() else None
    if image is None:
        capture.release()
        return None
    return capture, image


def describe_capture(opened: OpenCapture) -> str:
    """Describe an open capture: size, rate, codec, and the library that reads it."""
    capture, image = opened
    fps, code = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FOURCC))
    codec = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24)) if code > 0 else ""
    parts = [
        f"{image.shape[1]}x{image.shape[0]}",
        f"{fps:.4g} fps" if math.isfinite(fps) and 0 < fps <= 1000 else "",
        codec if codec.isascii() and codec.isprintable() else "",
        f"read by {LIBRARY_NAMES.get(name := capture.getBackendName(), name)}",
    ]
    return ", ".join(part.strip() for part in parts if part)


def error_without_url(error: Exception) -> str:
    """The error as one line. A foreign message is cut before any URL, since that may hold a password."""
    if isinstance(error, IernError):
        return str(error)
    return one_line(IernError(re.sub(r"\w*://.*", "...", f"{type(error).__name__}: {error}", flags=re.DOTALL)))
