"""Opens the cameras of this machine: by number or device through V4L2, and those on a Jetson's CSI connector."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from iern.runtime.errors import SourceError
from iern.runtime.sources.capture import OpenCapture, read_first_frame
from iern.runtime.sources.settings import SourceSettings
from iern.runtime.sources.v4l2 import cameras, may_open

CAMERA_NUMBERS = 100
"""A camera's number is less than this: OpenCV reads the hundreds as the number of a backend."""

CSI = "csi://"
CSI_SIZE, CSI_FPS = (1280, 720), 30.0
"""The default mode of a CSI camera. Its driver scales from any mode of the sensor."""

APPSINK = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
"""The end of a GStreamer pipeline, which passes the newest frame to OpenCV."""


def connect_camera(text: str, settings: SourceSettings) -> OpenCapture:
    """Open a camera by its number or device. Raises SourceError, with a remedy, if that fails."""
    number = int(text) if text.isdecimal() else None
    backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    if number is not None and number >= CAMERA_NUMBERS:
        raise SourceError(f"camera {text}: {_remedy(text)}")
    capture = cv2.VideoCapture(text if number is None else number, backend)
    request_mode(capture, settings)
    opened = read_first_frame(capture)
    if opened is None:
        raise SourceError(f"camera {text}: {_remedy(text)}")
    return opened


def request_mode(capture: cv2.VideoCapture, settings: SourceSettings) -> None:
    """Request a mode of a camera. The camera takes what it can; `Source.details` reports the result."""
    if settings.codec:  # first, since it decides which sizes and rates the camera offers
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*settings.codec))
    if settings.size:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.size[1])
    if settings.fps:
        capture.set(cv2.CAP_PROP_FPS, settings.fps)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)


def connect_csi(text: str, settings: SourceSettings) -> OpenCapture:
    """Open `csi://N`, the camera on a Jetson's connector N. Raises SourceError, with a remedy, if that fails."""
    if not has_gstreamer():
        raise SourceError(
            f"{text}: needs an OpenCV with GStreamer; this one (cv2 {cv2.__version__}) has none, like all of pip's; "
            "use one built with GStreamer and for NumPy 2, or pipe the frames from gst-launch-1.0 into --source - "
            "as docs/jetson.md shows"
        )
    opened = read_first_frame(cv2.VideoCapture(csi_pipeline(text, settings), cv2.CAP_GSTREAMER))
    if opened is None:
        raise SourceError(f"{text}: gives no frame; check the ribbon cable, --size, --fps and nvargus-daemon")
    return opened


def csi_pipeline(text: str, settings: SourceSettings) -> str:
    """The GStreamer pipeline of `csi://N`. Raises SourceError if N is no number."""
    sensor = text.removeprefix(CSI)
    if not (sensor.isascii() and sensor.isdecimal()):
        raise SourceError(f"{text}: expected csi:// and the number of the sensor, as in csi://0")
    width, height = settings.size or CSI_SIZE
    rate = round((settings.fps or CSI_FPS) * 1000)
    return (
        f"nvarguscamerasrc sensor-id={int(sensor)} ! "
        f"video/x-raw(memory:NVMM),width={width},height={height},framerate={rate}/1000 ! "
        f"nvvidconv ! video/x-raw,format=BGRx ! {APPSINK}"
    )


def has_gstreamer() -> bool:
    """Whether this OpenCV can read through GStreamer."""
    return cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)


def _remedy(text: str) -> str:
    """Why the camera does not open, and what to do."""
    device = Path(f"/dev/video{text}" if text.isdecimal() else text)
    present = [camera.device for camera in cameras(every_node=True) if camera.present]
    choose = "or choose another source with --source (a camera's number, a file, a folder or a URL)"
    if device.exists() and not may_open(device):
        return f"no permission for {device}; add yourself to its group (sudo usermod -aG video $USER), {choose}"
    if device.exists():
        return f"{device} gives no frame; close the program that uses it, {choose}"
    found = f"there are {', '.join(present)}" if present else "there is no /dev/video*"
    return f"not found{f' ({found})' if sys.platform == 'linux' else ''}; plug it in, {choose}"
