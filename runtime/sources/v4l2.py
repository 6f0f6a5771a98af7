"""Lists the cameras of a Linux machine: their devices, names, formats and sizes. Needs no OpenCV."""

from __future__ import annotations

import errno
import importlib
import os
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from iern.runtime.system.machine import text_of

ROOT = Path("/")
"""The folder that holds `dev` and `sys`."""

VIDEO_CAPTURE = 1
"""linux/videodev2.h: V4L2_BUF_TYPE_VIDEO_CAPTURE."""
FORMAT, FORMAT_BYTES = 0xC0405602, 64
"""VIDIOC_ENUM_FMT and its struct v4l2_fmtdesc: index, type, flags, description[32], pixelformat, ..."""
SIZE, SIZE_BYTES = 0xC02C564A, 44
"""VIDIOC_ENUM_FRAMESIZES and its struct v4l2_frmsizeenum: index, pixel_format, type, then the sizes."""
DISCRETE = 1
"""V4L2_FRMSIZE_TYPE_DISCRETE: width, height. Otherwise: least and largest width and the step, then the heights."""

MOST_ENTRIES = 64
"""The most formats or sizes that are queried, in case a driver never ends its list."""


@dataclass(frozen=True)
class Camera:
    """A video device of this machine."""

    device: str
    """/dev/video0."""
    name: str
    """The driver's name for it; empty if unknown."""
    present: bool
    """Whether the device file exists. A container may see only the kernel's list."""
    allowed: bool
    """Whether this user may open it."""

    @property
    def number(self) -> int:
        """N of /dev/videoN."""
        return int(self.device.removeprefix("/dev/video"))


def cameras(root: Path = ROOT, *, every_node: bool = False) -> list[Camera]:
    """The video devices that the kernel or /dev lists, in the order of their numbers.

    A webcam has a second node, which gives metadata only. Such nodes are listed with `every_node`.
    """
    listed = root / "sys" / "class" / "video4linux"
    names = {path.name for folder in (listed, root / "dev") for path in folder.glob("video*")}
    found = []
    for name in names:
        if not re.fullmatch(r"video\d+", name) or not (every_node or text_of(listed / name / "index") in ("", "0")):
            continue
        path = root / "dev" / name
        found.append(Camera(f"/dev/{name}", text_of(listed / name / "name"), path.exists(), may_open(path)))
    return sorted(found, key=lambda camera: camera.number)


def may_open(device: Path) -> bool:
    """Whether this user may read and write the device."""
    return os.access(device, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def camera_lines(root: Path = ROOT) -> list[str]:
    """The lines of `--list-cameras`: one a camera, or one that reports that there is none."""
    if sys.platform != "linux":
        return ["cameras can be listed on Linux only; try --source 0, 1, ..."]
    present = [camera for camera in cameras(root, every_node=True) if camera.present]
    if not present:
        return ["no cameras: there is no /dev/video*; plug one in (in a container: --device /dev/video0)"]
    return [
        f"{camera.number}  {camera.device}  {camera.name or '(unnamed)'}: {_formats_of(camera, root)}"
        for camera in present
    ]


def _formats_of(camera: Camera, root: Path) -> str:
    """The formats and sizes of one camera, or why they cannot be read."""
    try:
        device = os.open(root / camera.device.lstrip("/"), os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    try:
        formats = [f"{_format_code(pixels)} {' '.join(_sizes(device, pixels))}".rstrip() for pixels in _formats(device)]
    finally:
        os.close(device)
    return "; ".join(formats) or "gives no frames (the metadata node of a camera, or an output)"


def _formats(device: int) -> Iterator[int]:
    """The pixel formats of an open device, as numbers."""
    for index in range(MOST_ENTRIES):
        entry = _query(device, FORMAT, struct.pack("=II", index, VIDEO_CAPTURE).ljust(FORMAT_BYTES, b"\0"))
        if entry is None:
            return
        yield struct.unpack_from("=I", entry, 44)[0]


def _sizes(device: int, pixels: int) -> Iterator[str]:
    """The sizes that an open device offers in one format."""
    for index in range(MOST_ENTRIES):
        entry = _query(device, SIZE, struct.pack("=II", index, pixels).ljust(SIZE_BYTES, b"\0"))
        if entry is None:
            return
        kind, *values = struct.unpack_from("=7I", entry, 8)
        if kind != DISCRETE:
            yield f"{values[0]}x{values[3]} to {values[1]}x{values[4]}"
            return
        yield f"{values[0]}x{values[1]}"


def _query(device: int, request: int, content: bytes) -> bytes | None:
    """Call ioctl and return the driver's struct; None at the end of its list, or if it does not know the request."""
    ioctl = importlib.import_module("fcntl").ioctl  # late: Windows has none
    try:
        return ioctl(device, request, content)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY, errno.ENODEV, errno.EIO):
            return None
        raise


def _format_code(pixels: int) -> str:
    """The four letters of a pixel format: MJPG, YUYV, ..."""
    return struct.pack("=I", pixels & 0x7FFFFFFF).decode("ascii", errors="replace").strip()
