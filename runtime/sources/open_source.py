"""Opens a source from one word: a camera number, a path or a URL."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2

from iern.runtime.errors import ImageError, SourceError
from iern.runtime.imaging.formats import IMAGE_SUFFIXES, is_image_file, is_still_image
from iern.runtime.imaging.images import load_image
from iern.runtime.sources.base import Frame, Source
from iern.runtime.sources.cameras import CSI, connect_camera, connect_csi
from iern.runtime.sources.capture import OpenCapture, describe_capture, read_first_frame
from iern.runtime.sources.files import ImageFiles, VideoFile
from iern.runtime.sources.folders import files_below
from iern.runtime.sources.live import LiveSource
from iern.runtime.sources.raw_frames import RawFrames
from iern.runtime.sources.settings import SourceSettings
from iern.runtime.sources.streams import connect_stream, scheme_of, spec_without_credentials, without_credentials
from iern.runtime.system.files import is_text
from iern.runtime.system.opencv import silence_opencv

__all__ = ["Frame", "Source", "open_source"]

STDIN = "-"


def open_source(spec: str | int | Path, settings: SourceSettings | None = None) -> Source:
    """A camera number, /dev/video*, csi://N, video file, image, folder of images, stream URL or `-` -> its open source.

    Images, video files and stdin give every frame. Cameras and streams give the latest one, and are reopened when they
    are lost. A finite video behind an HTTP URL counts as a file. Raises SourceError, with a remedy, if the source is
    absent, empty, damaged or of an unknown format.
    """
    silence_opencv()
    settings = settings or SourceSettings()
    text = str(spec)
    path = Path(text)
    if text == STDIN:
        return _open_stdin(settings)
    if ("://" in text or text.startswith("/dev/")) and not is_text(text):
        raise SourceError(
            f"{spec_without_credentials(text)!a}: has bytes that are no text; only a file may be named so"
        )
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
        raise SourceError(f"{spec_without_credentials(text)}: no such file, folder or device; check --source")
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"{text}: the file is empty (0 bytes); an image or a video was expected")
    return _open_file(path)


def _open_file(path: Path) -> Source:
    """An image or a video, by its content. A file that is neither is refused as its name suggests."""
    if is_still_image(path):
        return _open_image(path)
    try:
        return _open_video(path)
    except SourceError:
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise
    return _open_image(path)


def _open_image(path: Path) -> Source:
    try:
        load_image(path)  # report an error here, not in the first iteration
    except ImageError as error:
        raise SourceError(str(error)) from error
    return ImageFiles([path], str(path), path.parent)


def _open_folder(path: Path) -> Source:
    files = files_below(path)
    images = [file for file in files if is_image_file(file)]
    if not images:
        raise SourceError(
            f"{path}: the folder has no images among its {len(files)} files; expected .jpg, .png, .webp or similar"
        )
    known = set(images)
    others = [file for file in files if file not in known]
    return ImageFiles(images, str(path), path, others)


def _open_video(path: Path) -> Source:
    if not os.access(path, os.R_OK):
        raise SourceError(f"{path}: may not be read; check its permissions")
    try:
        return _finite_video(path, path.name)
    except SourceError as error:
        raise SourceError(
            f"{path}: not a video that FFmpeg can play ({error}; {path.stat().st_size} bytes): another format, or cut "
            "off (an MP4 keeps its index at the end); copy it again, or convert it to MP4 or WebM"
        ) from error


def _open_stdin(settings: SourceSettings) -> Source:
    if settings.stdin_format is None:
        raise SourceError("stdin: frames have no header there; give their format, as in --stdin-format 640x480:bgr24")
    return RawFrames(sys.stdin.fileno(), settings.stdin_format, settings.fps)


def _open_stream(url: str, settings: SourceSettings) -> Source:
    opened = connect_stream(url)
    name = without_credentials(url)
    if scheme_of(url) in ("http", "https") and opened[0].get(cv2.CAP_PROP_FRAME_COUNT) > 1:
        opened[0].release()
        return _finite_video(url, name)
    return _live(functools.partial(connect_stream, url), name, settings, opened)


def _finite_video(video: Path | str, name: str) -> Source:
    """A file, or a video on a server by its URL. Raises SourceError if it cannot be played."""
    try:
        from iern.runtime.sources.pyav_capture import PyAvCapture  # late: cameras and images need no PyAV
    except ModuleNotFoundError as error:
        raise SourceError(f"videos need PyAV, which is not installed ({error}); pip install av") from error
    opened = read_first_frame(PyAvCapture(video))
    if opened is None:
        raise SourceError("it has no frame")
    source = VideoFile(opened, name)
    source.details = describe_capture(opened)
    return source


def _live(
    connect: Callable[[], OpenCapture], name: str, settings: SourceSettings, opened: OpenCapture | None = None
) -> Source:
    """A live source that reopens itself. It is opened now, so that an absent camera is an error at once."""
    opened = opened or connect()
    details = describe_capture(opened)  # before the source's thread reads on
    source = LiveSource(opened, name, connect, settings.timeouts)
    source.details = details + _requested(settings)
    return source


def _requested(settings: SourceSettings) -> str:
    """The mode that the user requested of a camera, to be compared with the actual one."""
    size = f"{settings.size[0]}x{settings.size[1]}" if settings.size else ""
    requested = [size, f"{settings.fps:g} fps" if settings.fps else "", settings.codec or ""]
    return f" (requested: {', '.join(filter(None, requested))})" if any(requested) else ""
