"""Streams: opening RTSP, HTTP and their like, and what of a URL may be shown."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator

import cv2

from iern.runtime.errors import SourceError
from iern.runtime.sources.cameras import SINK, has_gstreamer
from iern.runtime.sources.capture import OpenCapture, with_first_frame

STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "udp", "tcp", "srt")
OPEN_TIMEOUT_MS = 5000
READ_TIMEOUT_MS = 5000

LOW_LATENCY = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay"
"""FFmpeg options for streams but HTTP's: TCP loses no packets, and without a buffer the first frame is not a second
old. A film over HTTP would lose its first frame to them."""

_environment = threading.Lock()


def without_credentials(url: str) -> str:
    """The part of a URL that may be shown: scheme, host and path, no user, password, query or key=value segment."""
    scheme, _, rest = url.partition("://")
    before, _, rest = rest.rpartition("@")  # the last @: passwords contain @ and / in practice, hosts do not
    if "?" in before:  # a password with a ?, or a query with an @: either way what follows may be secret
        return f"{scheme}://..."
    shown = rest.partition("?")[0].partition("#")[0]
    segments = ["..." if "=" in segment else segment for segment in shown.split("/")]
    return f"{scheme}://{'/'.join(segments)}"


def shown(spec: str) -> str:
    """What may be shown of the word for a source, also where it is a URL that lacks its scheme."""
    return without_credentials(spec) if "://" in spec else re.sub(r".*:.*@", "...", spec)


def scheme_of(url: str) -> str:
    """The scheme of a stream's URL; raises SourceError where none can be read that way."""
    scheme = url.partition("://")[0].lower()
    if scheme not in STREAM_SCHEMES:
        expected = ", ".join((*STREAM_SCHEMES, "csi"))
        raise SourceError(f"{without_credentials(url)}: unknown scheme {scheme!r}; expected {expected}")
    return scheme


def connect_stream(url: str) -> OpenCapture:
    """Open a stream: RTSP through GStreamer where OpenCV has it, everything else through FFmpeg.

    HTTP stays with FFmpeg, which alone tells a film with an end from a camera. Raises SourceError.
    """
    scheme = scheme_of(url)
    opened = None
    if scheme in ("rtsp", "rtsps") and has_gstreamer():
        opened = with_first_frame(cv2.VideoCapture(rtsp_pipeline(url), cv2.CAP_GSTREAMER))
    if opened is None:
        with _ffmpeg_options("" if scheme in ("http", "https") else LOW_LATENCY):
            opened = with_first_frame(cv2.VideoCapture(url, cv2.CAP_FFMPEG, _limits()))
    if opened is None:
        raise SourceError(
            f"{without_credentials(url)}: no picture within {OPEN_TIMEOUT_MS / 1000:g} s; check the address, user and "
            "password, and that the camera or server is on"
        )
    return opened


def rtsp_pipeline(url: str) -> str:
    """The GStreamer pipeline of an RTSP URL: TCP, no jitter buffer, the best decoder there is, the newest picture.

    The time-out is the pipeline's own, since not every OpenCV with GStreamer takes one.
    """
    quoted = url.replace("\\", "%5C").replace('"', "%22")
    source = f"source::protocols=tcp source::latency=0 source::tcp-timeout={1000 * READ_TIMEOUT_MS}"
    return f'uridecodebin uri="{quoted}" {source} ! {SINK}'


def _limits() -> list[int]:
    return [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]


@contextlib.contextmanager
def _ffmpeg_options(options: str) -> Iterator[None]:
    """OpenCV takes these options from the environment only, at the moment of opening; the user's own win."""
    key = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    with _environment:
        mine = bool(options) and key not in os.environ
        if mine:
            os.environ[key] = options
        try:
            yield
        finally:
            if mine:
                del os.environ[key]
