"""OpenCV's captures: opened with a first frame, read with errors in our words, described."""

from __future__ import annotations

import contextlib
import math
import re

import cv2

from iern.runtime.errors import IernError, ImageError, SourceError, one_line
from iern.runtime.imaging.images import Image, as_bgr

LIBRARIES = {"FFMPEG": "FFmpeg", "GSTREAMER": "GStreamer"}
"""What OpenCV's backends are called by everybody else."""

OpenCapture = tuple[cv2.VideoCapture, Image]
"""An open capture and its first frame: one that opens but shows nothing does not count as open."""


def read(capture: cv2.VideoCapture) -> Image | None:
    """The capture's next frame as (H, W, 3) uint8 BGR; None at its end, which is also how a loss looks.

    Raises SourceError where the decoder gives up, or gives what is no picture.
    """
    try:
        delivered, image = capture.read()
        return as_bgr(image) if delivered and image is not None and image.size else None
    except cv2.error as error:
        raise SourceError(f"the decoder gave up ({in_words(error)})") from error
    except ImageError as error:
        raise SourceError(str(error)) from error


def with_first_frame(capture: cv2.VideoCapture) -> OpenCapture | None:
    """The capture and its first frame; None, and released, where it is not open or gives none."""
    image = None
    with contextlib.suppress(SourceError):
        image = read(capture) if capture.isOpened() else None
    if image is None:
        capture.release()
        return None
    return capture, image


def described(opened: OpenCapture) -> str:
    """What an open capture really gives: size, rate, codec, and the library that reads it."""
    capture, image = opened
    fps, code = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FOURCC))
    codec = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24)) if code > 0 else ""
    parts = [
        f"{image.shape[1]}x{image.shape[0]}",
        f"{fps:.4g} fps" if math.isfinite(fps) and 0 < fps <= 1000 else "",
        codec if codec.isascii() and codec.isprintable() else "",
        f"read by {LIBRARIES.get(name := capture.getBackendName(), name)}",
    ]
    return ", ".join(part.strip() for part in parts if part)


def in_words(error: Exception) -> str:
    """An error on one line, cut before any URL, which may hold a password. Our own messages hold none."""
    if isinstance(error, IernError):
        return str(error)
    return one_line(IernError(re.sub(r"\w*://.*", "...", f"{type(error).__name__}: {error}", flags=re.DOTALL)))
