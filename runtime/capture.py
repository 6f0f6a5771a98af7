"""One word for a source, the camera's number, a path or a URL, and the source is open."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2

from iern.runtime.errors import ImageError, SourceError
from iern.runtime.images import IMAGE_SUFFIXES, read_image
from iern.runtime.sources import Frame, ImageFiles, LiveSource, Opened, Source, VideoFile, read

__all__ = ["Frame", "Source", "open_source"]

STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "udp", "tcp", "srt")
OPEN_TIMEOUT_MS = 5000
READ_TIMEOUT_MS = 5000

LOW_LATENCY = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay"
"""FFmpeg options for streams but HTTP's: TCP loses no packets, and without a buffer the first frame is not a second
old. A film over HTTP would lose its first frame to them."""

CAMERAS = 100
"""OpenCV reads the hundreds of a camera's number as the name of a backend."""

_environment = threading.Lock()


def open_source(spec: str | int) -> Source:
    """A camera number, /dev/video*, video file, image, folder of images, or stream URL -> its open source.

    Images and video files give every frame; cameras and streams the latest one. A finite video behind an HTTP URL
    counts as a file. Raises SourceError, with a remedy, where it is absent, empty, damaged or of no known format.
    """
    silence_opencv()
    text = str(spec)
    path = Path(text)
    if text.isdecimal() or text.startswith(("/dev/video", "/dev/v4l/")):
        return LiveSource(_connect_camera(text), f"camera {int(text)}" if text.isdecimal() else text)
    if "://" in text:
        return _open_stream(text)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise SourceError(f"{text}: no such file, folder or device; check --source")
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"{text}: the file is empty (0 bytes); an image or a video was expected")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _open_image(path)
    return _open_video(path)


def silence_opencv() -> None:
    """Keep OpenCV and FFmpeg off the log: they write URLs with passwords there, and our errors say more."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # libav's "quiet"; read when FFmpeg is first used
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def without_credentials(url: str) -> str:
    """The part of a URL that may be shown: scheme, host and path, no user, password, query or key=value segment."""
    scheme, _, rest = url.partition("://")
    rest = rest.rpartition("@")[2]  # the last @: passwords contain @ and / in practice, hosts do not
    shown = rest.partition("?")[0].partition("#")[0]
    segments = ["..." if "=" in segment else segment for segment in shown.split("/")]
    return f"{scheme}://{'/'.join(segments)}"


def _open_image(path: Path) -> Source:
    try:
        read_image(path)  # an error belongs here, not to the first iteration
    except ImageError as error:
        raise SourceError(str(error)) from error
    return ImageFiles([path], str(path))


def _open_folder(path: Path) -> Source:
    try:
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    except OSError as error:
        raise SourceError(f"{path}: cannot be listed ({error.strerror}); check its permissions") from error
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        expected = " ".join(sorted(IMAGE_SUFFIXES))
        raise SourceError(f"{path}: the folder has no images among its {len(files)} files; expected {expected}")
    return ImageFiles(images, str(path))


def _open_video(path: Path) -> Source:
    if not os.access(path, os.R_OK):
        raise SourceError(f"{path}: may not be read; check its permissions")
    opened = _with_first_frame(cv2.VideoCapture(str(path)))
    if opened is None:
        raise SourceError(
            f"{path}: {path.stat().st_size} bytes that are no video OpenCV can play: another format, or cut off "
            "(an MP4 keeps its index at the end); copy it again, or convert it to MP4 or WebM"
        )
    return VideoFile(opened, path.name)


def _connect_camera(text: str) -> Opened:
    number = int(text) if text.isdecimal() else None
    backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    if number is not None and number >= CAMERAS:
        raise SourceError(f"camera {text}: {_camera_remedy(text)}")
    capture = cv2.VideoCapture(text if number is None else number, backend)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    opened = _with_first_frame(capture)
    if opened is None:
        raise SourceError(f"camera {text}: {_camera_remedy(text)}")
    return opened


def _camera_remedy(text: str) -> str:
    """Why the camera does not open, as far as can be told from outside, and what to do."""
    device = Path(f"/dev/video{text}" if text.isdecimal() else text)
    present = sorted(str(path) for path in Path("/dev").glob("video*"))
    choose = "or choose another source with --source (a camera's number, a file, a folder or a URL)"
    if device.exists() and not os.access(device, os.R_OK | os.W_OK):
        return f"no permission for {device}; add yourself to its group (sudo usermod -aG video $USER), {choose}"
    if device.exists():
        return f"{device} gives no picture; close the program that uses it, {choose}"
    found = f"there are {', '.join(present)}" if present else "there is no /dev/video*"
    return f"not found{f' ({found})' if sys.platform == 'linux' else ''}; plug it in, {choose}"


def _open_stream(url: str) -> Source:
    name = without_credentials(url)
    scheme = url.partition("://")[0].lower()
    if scheme not in STREAM_SCHEMES:
        raise SourceError(f"{name}: unknown scheme {scheme!r}; expected {', '.join(STREAM_SCHEMES)}")
    over_http = scheme in ("http", "https")
    opened = _connect_stream(url, name, "" if over_http else LOW_LATENCY)
    film = over_http and opened[0].get(cv2.CAP_PROP_FRAME_COUNT) > 1  # what has a length has an end
    return VideoFile(opened, name) if film else LiveSource(opened, name)


def _connect_stream(url: str, name: str, options: str) -> Opened:
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
    with _ffmpeg_options(options):
        opened = _with_first_frame(cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits))
    if opened is None:
        raise SourceError(
            f"{name}: no picture within {OPEN_TIMEOUT_MS / 1000:g} s; check the address, user and password, "
            "and that the camera or server is on"
        )
    return opened


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


def _with_first_frame(capture: cv2.VideoCapture) -> Opened | None:
    """The capture and its first frame; None, and released, where it is not open or gives none."""
    image = read(capture) if capture.isOpened() else None
    if image is None:
        capture.release()
        return None
    return capture, image
