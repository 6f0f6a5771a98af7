"""One word for a source, the camera's number, a path or a URL, and the source is open."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2

from iern.runtime.errors import ImageError, SourceError
from iern.runtime.imaging.images import IMAGE_SUFFIXES, read_image
from iern.runtime.sources.base import Frame, Source
from iern.runtime.sources.cameras import CSI, connect_camera, connect_csi
from iern.runtime.sources.capture import OpenCapture, described, with_first_frame
from iern.runtime.sources.files import ImageFiles, VideoFile
from iern.runtime.sources.live import LiveSource
from iern.runtime.sources.raw_frames import RawFrames
from iern.runtime.sources.settings import SourceSettings
from iern.runtime.sources.streams import connect_stream, scheme_of, shown, without_credentials
from iern.runtime.system.opencv import silence_opencv

__all__ = ["Frame", "Source", "open_source"]

STDIN = "-"


def open_source(spec: str | int | Path, settings: SourceSettings | None = None) -> Source:
    """A camera number, /dev/video*, csi://N, video file, image, folder of images, stream URL or `-` -> its open source.

    Images, video files and stdin give every frame; cameras and streams the latest one, and they are opened anew where
    they are lost. A finite video behind an HTTP URL counts as a file. Raises SourceError, with a remedy, where it is
    absent, empty, damaged or of no known format.
    """
    silence_opencv()
    settings = settings or SourceSettings()
    text = str(spec)
    path = Path(text)
    if text == STDIN:
        return _open_stdin(settings)
    if text.isdecimal() or text.startswith(("/dev/video", "/dev/v4l/")):
        name = f"camera {int(text)}" if text.isdecimal() else text
        return _live(functools.partial(connect_camera, text, settings), name, settings)
    if text.startswith(CSI):
        return _live(functools.partial(connect_csi, text, settings), text, settings)
    if "://" in text:
        return _open_stream(text, settings)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise SourceError(f"{shown(text)}: no such file, folder or device; check --source")
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"{text}: the file is empty (0 bytes); an image or a video was expected")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _open_image(path)
    return _open_video(path)


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
    opened = with_first_frame(cv2.VideoCapture(str(path)))
    if opened is None:
        raise SourceError(
            f"{path}: {path.stat().st_size} bytes that are no video OpenCV can play: another format, or cut off "
            "(an MP4 keeps its index at the end); copy it again, or convert it to MP4 or WebM"
        )
    return _film(opened, path.name)


def _open_stdin(settings: SourceSettings) -> Source:
    if settings.stdin_format is None:
        raise SourceError("stdin: frames have no header there; say what they are, as in --stdin-format 640x480:bgr24")
    return RawFrames(sys.stdin.fileno(), settings.stdin_format, settings.fps)


def _open_stream(url: str, settings: SourceSettings) -> Source:
    opened = connect_stream(url)
    name = without_credentials(url)
    if scheme_of(url) in ("http", "https") and opened[0].get(cv2.CAP_PROP_FRAME_COUNT) > 1:
        return _film(opened, name)  # what has a length has an end
    return _live(functools.partial(connect_stream, url), name, settings, opened)


def _film(opened: OpenCapture, name: str) -> Source:
    source = VideoFile(opened, name)
    source.details = described(opened)
    return source


def _live(
    connect: Callable[[], OpenCapture], name: str, settings: SourceSettings, opened: OpenCapture | None = None
) -> Source:
    """Open it now, so that an absent camera is an error at once, and let the source open it anew later on."""
    opened = opened or connect()
    details = described(opened)  # before its thread reads on
    source = LiveSource(opened, name, connect, settings.patience)
    source.details = details + _asked(settings)
    return source


def _asked(settings: SourceSettings) -> str:
    """What a camera was asked for, to be read beside what it gives."""
    size = f"{settings.size[0]}x{settings.size[1]}" if settings.size else ""
    wishes = [size, f"{settings.fps:g} fps" if settings.fps else "", settings.codec or ""]
    return f" (asked for: {', '.join(filter(None, wishes))})" if any(wishes) else ""
