"""Opens streams (RTSP, HTTP and others), and removes credentials from their URLs."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator

import cv2

from iern.runtime.errors import SourceError
from iern.runtime.sources.cameras import APPSINK, has_gstreamer
from iern.runtime.sources.capture import OpenCapture, read_first_frame

STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "udp", "tcp", "srt")
OPEN_TIMEOUT_MS = 5000
READ_TIMEOUT_MS = 5000

LOW_LATENCY = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay"
"""FFmpeg's options for all streams but HTTP. TCP loses no packets, and without a buffer the first frame is not a second
old. A video over HTTP would lose its first frame with these options."""

_environment_lock = threading.Lock()


def without_credentials(url: str) -> str:
    """The scheme, host and path of a URL, without user, password, query and key=value segments."""
    scheme, _, rest = url.partition("://")
    before, _, rest = rest.rpartition("@")  # the last @: passwords may contain @ and /, hosts do not
    if "?" in before:  # a password with a ?, or a query with an @: the rest may be secret
        return f"{scheme}://..."
    address = rest.partition("?")[0].partition("#")[0]
    segments = ["..." if "=" in segment else segment for segment in address.split("/")]
    return f"{scheme}://{'/'.join(segments)}"


def spec_without_credentials(spec: str) -> str:
    """The value of `--source` without credentials, also if it is a mistyped URL."""
    if "://" in spec:
        return without_credentials(spec)
    address, _, _ = re.sub(r".*:.*@", "...", spec).partition("?")
    if address == spec:
        return spec
    return "/".join("..." if "=" in segment else segment for segment in address.partition("#")[0].split("/"))


def scheme_of(url: str) -> str:
    """The scheme of a stream's URL. Raises SourceError if it is unknown."""
    scheme = url.partition("://")[0].lower()
    if scheme not in STREAM_SCHEMES:
        expected = ", ".join((*STREAM_SCHEMES, "csi"))
        raise SourceError(f"{without_credentials(url)}: unknown scheme {scheme!r}; expected {expected}")
    return scheme


def connect_stream(url: str) -> OpenCapture:
    """Open a stream: RTSP through GStreamer if OpenCV has it, everything else through FFmpeg.

    HTTP always uses FFmpeg: only FFmpeg distinguishes a finite video from a camera. Raises SourceError.
    """
    scheme = scheme_of(url)
    opened = None
    if scheme in ("rtsp", "rtsps") and has_gstreamer():
        opened = read_first_frame(cv2.VideoCapture(rtsp_pipeline(url), cv2.CAP_GSTREAMER))
    if opened is None:
        with _ffmpeg_options("" if scheme in ("http", "https") else LOW_LATENCY):
            opened = read_first_frame(cv2.VideoCapture(url, cv2.CAP_FFMPEG, _timeout_parameters()))
    if opened is None:
        raise SourceError(
            f"{without_credentials(url)}: no frame within {OPEN_TIMEOUT_MS / 1000:g} s; check the address, user and "
            "password, and that the camera or server is on"
        )
    return opened


def rtsp_pipeline(url: str) -> str:
    """The GStreamer pipeline of an RTSP URL: TCP, no jitter buffer, the best decoder found, the newest frame.

    The time-out is part of the pipeline, since not every OpenCV with GStreamer takes one.
    """
    quoted = url.replace("\\", "%5C").replace('"', "%22")
    source = f"source::protocols=tcp source::latency=0 source::tcp-timeout={1000 * READ_TIMEOUT_MS}"
    return f'uridecodebin uri="{quoted}" {source} ! {APPSINK}'


def _timeout_parameters() -> list[int]:
    return [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]


@contextlib.contextmanager
def _ffmpeg_options(options: str) -> Iterator[None]:
    """Set FFmpeg's options while a stream is opened, unless the user has set them.

    OpenCV reads them from the environment only, at the moment of opening.
    """
    key = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    with _environment_lock:
        set_here = bool(options) and key not in os.environ
        if set_here:
            os.environ[key] = options
        try:
            yield
        finally:
            if set_here:
                del os.environ[key]
