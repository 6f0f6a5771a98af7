"""Cameras of this machine: what they are asked for, and how they are listed."""

from __future__ import annotations

import errno
import fcntl
import shutil
import struct
import subprocess
from pathlib import Path

import cv2
import pytest

from doubles.scripted_capture import ScriptedCapture, noise
from iern.runtime.errors import SourceError
from iern.runtime.sources import cameras
from iern.runtime.sources import v4l2 as camera_devices
from iern.runtime.sources.cameras import csi_pipeline
from iern.runtime.sources.open_source import open_source
from iern.runtime.sources.settings import SourceSettings
from iern.runtime.sources.v4l2 import camera_lines
from iern.runtime.webcam import main


@pytest.mark.skipif(cameras.has_gstreamer(), reason="this OpenCV has GStreamer")
def test_a_csi_camera_without_gstreamer_is_refused_with_the_remedy():
    remedy = r"csi://0: needs an OpenCV with GStreamer.*NumPy 2.*gst-launch-1\.0.*docs/jetson\.md"
    with pytest.raises(SourceError, match=remedy):
        open_source("csi://0")


@pytest.mark.parametrize("text", ["csi://", "csi://one", "csi://0/1", "csi://-1", "csi://²"])
def test_a_csi_camera_without_a_number_is_refused(text):
    with pytest.raises(SourceError, match="as in csi://0"):
        csi_pipeline(text, SourceSettings())


def test_a_csi_camera_is_opened_through_gstreamer_with_what_was_asked_for(monkeypatch):
    """At the seam of OpenCV, since only a Jetson has the elements."""
    opened = []

    def video_capture(*arguments):
        opened.append(arguments)
        return ScriptedCapture(noise())

    monkeypatch.setattr(cameras, "has_gstreamer", lambda: True)
    monkeypatch.setattr(cv2, "VideoCapture", video_capture)
    with open_source("csi://1", SourceSettings(size=(1920, 1080), fps=29.97)) as source:
        assert (source.name, source.live) == ("csi://1", True)
    ((pipeline, backend),) = opened
    assert backend == cv2.CAP_GSTREAMER
    assert pipeline.split(" ! ") == [
        "nvarguscamerasrc sensor-id=1",
        "video/x-raw(memory:NVMM),width=1920,height=1080,framerate=29970/1000",
        "nvvidconv",
        "video/x-raw,format=BGRx",
        "videoconvert",
        "video/x-raw,format=BGR",
        "appsink drop=true max-buffers=1 sync=false",
    ]


def test_a_machine_without_cameras_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(camera_devices, "DEVICES", tmp_path)
    assert main(["--list-cameras"]) == 0
    assert capsys.readouterr().out.startswith("no cameras: there is no /dev/video*; plug one in")


def fake_driver(device: int, request: int, question: bytes) -> bytes:
    """Answers as a webcam does: two formats, one of them with two sizes, the other with a range."""
    index, second = struct.unpack_from("=II", question)
    formats = [b"MJPG", b"YUYV"]
    if request == camera_devices.FORMAT and index < len(formats):
        return question[:44] + formats[index] + question[48:]
    discrete = [(640, 480), (1280, 720)]
    pixels = struct.pack("=I", second)
    if request == camera_devices.SIZE and pixels == b"MJPG" and index < len(discrete):
        return struct.pack("=5I", index, second, 1, *discrete[index]).ljust(len(question), b"\0")
    if request == camera_devices.SIZE and pixels == b"YUYV":
        return struct.pack("=9I", index, second, 3, 32, 640, 2, 16, 480, 2).ljust(len(question), b"\0")
    raise OSError(errno.EINVAL, "Invalid argument")


def test_cameras_are_listed_by_number_with_names_formats_and_sizes(tmp_path, monkeypatch):
    devices, classes = tmp_path / "dev", tmp_path / "class"
    for number, name in ((10, "Second"), (2, "First camera"), (3, None)):
        devices.mkdir(exist_ok=True)
        (devices / f"video{number}").touch()
        if name:
            (classes / f"video{number}").mkdir(parents=True)
            (classes / f"video{number}" / "name").write_text(name + "\n", encoding="utf-8")
    (devices / "videos").touch()
    monkeypatch.setattr(camera_devices, "DEVICES", devices)
    monkeypatch.setattr(camera_devices, "CLASSES", classes)
    no_camera = [line.partition("  ")[2] for line in camera_lines()]  # plain files know no such questions
    assert no_camera[0].startswith(f"{devices}/video2  First camera: gives no pictures")
    monkeypatch.setattr(fcntl, "ioctl", fake_driver)
    formats = "MJPG 640x480 1280x720; YUYV 32x16 to 640x480"
    assert camera_lines() == [
        f"2  {devices}/video2  First camera: {formats}",
        f"3  {devices}/video3  (unnamed): {formats}",
        f"10  {devices}/video10  Second: {formats}",
    ]


@pytest.mark.skipif(
    not shutil.which("cc") or not Path("/usr/include/linux/videodev2.h").exists(),
    reason="needs a C compiler and Linux's headers (apt-get install gcc libc6-dev)",
)
def test_the_questions_to_the_driver_are_those_of_the_kernels_own_header(tmp_path):
    source, program = tmp_path / "ask.c", tmp_path / "ask"
    source.write_text(
        """
        #include <linux/videodev2.h>
        #include <stddef.h>
        #include <stdio.h>
        int main(void) {
            printf("%lu %zu %zu %lu %zu %zu %zu %d %d",
                   (unsigned long)VIDIOC_ENUM_FMT, sizeof(struct v4l2_fmtdesc),
                   offsetof(struct v4l2_fmtdesc, pixelformat),
                   (unsigned long)VIDIOC_ENUM_FRAMESIZES, sizeof(struct v4l2_frmsizeenum),
                   offsetof(struct v4l2_frmsizeenum, type),
                   offsetof(struct v4l2_frmsizeenum, stepwise.max_height),
                   V4L2_BUF_TYPE_VIDEO_CAPTURE, V4L2_FRMSIZE_TYPE_DISCRETE);
            return 0;
        }
        """,
        encoding="utf-8",
    )
    subprocess.run(["cc", str(source), "-o", str(program)], check=True, timeout=120)
    said = subprocess.run([str(program)], capture_output=True, check=True).stdout.decode()
    ours = camera_devices
    expected = (ours.FORMAT, ours.FORMAT_BYTES, 44, ours.SIZE, ours.SIZE_BYTES, 8, 8 + 4 + 4 * 4)
    assert said == " ".join(map(str, (*expected, ours.VIDEO_CAPTURE, ours.DISCRETE)))
