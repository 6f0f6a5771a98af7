"""Cameras of this machine: by number or device through V4L2, and those on a Jetson's CSI connector."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2

from iern.runtime.errors import SourceError
from iern.runtime.sources.capture import OpenCapture, with_first_frame
from iern.runtime.sources.settings import SourceSettings

CAMERAS = 100
"""OpenCV reads the hundreds of a camera's number as the name of a backend."""

CSI = "csi://"
CSI_SIZE, CSI_FPS = (1280, 720), 30.0
"""What a CSI camera is asked for where the user does not say: its driver scales from any mode of the sensor."""

SINK = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
"""The end of a GStreamer pipeline that hands the newest picture to OpenCV."""


def connect_camera(text: str, settings: SourceSettings) -> OpenCapture:
    """Open a camera by its number or device. Raises SourceError, with a remedy, where that fails."""
    number = int(text) if text.isdecimal() else None
    backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    if number is not None and number >= CAMERAS:
        raise SourceError(f"camera {text}: {_remedy(text)}")
    capture = cv2.VideoCapture(text if number is None else number, backend)
    ask(capture, settings)
    opened = with_first_frame(capture)
    if opened is None:
        raise SourceError(f"camera {text}: {_remedy(text)}")
    return opened


def ask(capture: cv2.VideoCapture, settings: SourceSettings) -> None:
    """Ask a camera for what the user wants; it takes what it can, and `details` says what that was."""
    if settings.codec:  # first: it decides which sizes and rates there are
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*settings.codec))
    if settings.size:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.size[1])
    if settings.fps:
        capture.set(cv2.CAP_PROP_FPS, settings.fps)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)


def connect_csi(text: str, settings: SourceSettings) -> OpenCapture:
    """Open `csi://N`, a camera on a Jetson's connector N. Raises SourceError, with a remedy, where that fails."""
    if not has_gstreamer():
        raise SourceError(
            f"{text}: needs an OpenCV with GStreamer, and this one (cv2 {cv2.__version__}) has none, like all of "
            "pip's; take one built with GStreamer and for NumPy 2, or let gst-launch-1.0 bring the pictures to "
            "--source - as docs/jetson.md shows"
        )
    opened = with_first_frame(cv2.VideoCapture(csi_pipeline(text, settings), cv2.CAP_GSTREAMER))
    if opened is None:
        raise SourceError(f"{text}: gives no picture; check the ribbon cable, --size and --fps, and nvargus-daemon")
    return opened


def csi_pipeline(text: str, settings: SourceSettings) -> str:
    """The GStreamer pipeline of `csi://N`. Raises SourceError where N is no number."""
    sensor = text.removeprefix(CSI)
    if not (sensor.isascii() and sensor.isdecimal()):
        raise SourceError(f"{text}: expected csi:// and the number of the sensor, as in csi://0")
    width, height = settings.size or CSI_SIZE
    rate = round((settings.fps or CSI_FPS) * 1000)
    return (
        f"nvarguscamerasrc sensor-id={int(sensor)} ! "
        f"video/x-raw(memory:NVMM),width={width},height={height},framerate={rate}/1000 ! "
        f"nvvidconv ! video/x-raw,format=BGRx ! {SINK}"
    )


def has_gstreamer() -> bool:
    """Whether this OpenCV can read through GStreamer."""
    return cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)


def _remedy(text: str) -> str:
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
