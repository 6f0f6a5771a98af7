"""The cameras of this machine, asked of Linux itself: names, and the sizes they offer. Needs no OpenCV."""

from __future__ import annotations

import errno
import importlib
import os
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

DEVICES, CLASSES = Path("/dev"), Path("/sys/class/video4linux")

VIDEO_CAPTURE = 1
"""linux/videodev2.h: V4L2_BUF_TYPE_VIDEO_CAPTURE."""
FORMAT, FORMAT_BYTES = 0xC0405602, 64
"""VIDIOC_ENUM_FMT and its struct v4l2_fmtdesc: index, type, flags, description[32], pixelformat, ..."""
SIZE, SIZE_BYTES = 0xC02C564A, 44
"""VIDIOC_ENUM_FRAMESIZES and its struct v4l2_frmsizeenum: index, pixel_format, type, then the sizes."""
DISCRETE = 1
"""V4L2_FRMSIZE_TYPE_DISCRETE: width, height; otherwise least and largest width with the step, then height's."""

MOST = 64
"""Formats or sizes that are asked for: a driver that never ends its list must not hang us."""


def camera_lines() -> list[str]:
    """What `--list-cameras` shows: a line a camera, or one that says that there is none."""
    if sys.platform != "linux":
        return ["cameras can be listed on Linux only; try --source 0, 1, ..."]
    numbers = [int(match[1]) for path in DEVICES.glob("video*") if (match := re.fullmatch(r"video(\d+)", path.name))]
    if not numbers:
        return ["no cameras: there is no /dev/video*; plug one in (in a container: --device /dev/video0)"]
    return [f"{number}  {DEVICES / f'video{number}'}  {_described(number)}" for number in sorted(numbers)]


def _described(number: int) -> str:
    """Name and formats of one device, or what keeps us from them."""
    try:
        name = (CLASSES / f"video{number}" / "name").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        name = "(unnamed)"
    try:
        device = os.open(DEVICES / f"video{number}", os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        return f"{name}: cannot be asked ({error.strerror})"
    try:
        formats = [f"{_code(pixels)} {' '.join(_sizes(device, pixels))}".rstrip() for pixels in _formats(device)]
    finally:
        os.close(device)
    return f"{name}: {'; '.join(formats) or 'gives no pictures (the other half of a camera, or an output)'}"


def _formats(device: int) -> Iterator[int]:
    """The pixel formats of an open device, as numbers."""
    for index in range(MOST):
        answer = _asked(device, FORMAT, struct.pack("=II", index, VIDEO_CAPTURE).ljust(FORMAT_BYTES, b"\0"))
        if answer is None:
            return
        yield struct.unpack_from("=I", answer, 44)[0]


def _sizes(device: int, pixels: int) -> Iterator[str]:
    """The sizes that an open device offers in one format."""
    for index in range(MOST):
        answer = _asked(device, SIZE, struct.pack("=II", index, pixels).ljust(SIZE_BYTES, b"\0"))
        if answer is None:
            return
        kind, *values = struct.unpack_from("=7I", answer, 8)
        if kind != DISCRETE:
            yield f"{values[0]}x{values[3]} to {values[1]}x{values[4]}"
            return
        yield f"{values[0]}x{values[1]}"


def _asked(device: int, request: int, question: bytes) -> bytes | None:
    """The driver's answer to an ioctl; None where its list ends, or where it knows no such question."""
    ioctl = importlib.import_module("fcntl").ioctl  # late: Windows has none
    try:
        return ioctl(device, request, question)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY, errno.ENODEV, errno.EIO):
            return None
        raise


def _code(pixels: int) -> str:
    """A pixel format as it is written: MJPG, YUYV, ..."""
    return struct.pack("=I", pixels & 0x7FFFFFFF).decode("ascii", errors="replace").strip()
