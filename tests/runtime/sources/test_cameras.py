"""Cameras of this machine: the mode that is requested of them, and how they are listed."""

from __future__ import annotations

import errno
import fcntl
import functools
import shutil
import struct
import subprocess
from pathlib import Path

import cv2
import pytest

from doubles.scripted_capture import ScriptedCapture, noise
from iern.runtime import webcam
from iern.runtime.app import source_options
from iern.runtime.errors import SourceError
from iern.runtime.sources import cameras, v4l2
from iern.runtime.sources.cameras import csi_pipeline
from iern.runtime.sources.open_source import open_source
from iern.runtime.sources.settings import SourceSettings
from iern.runtime.sources.v4l2 import camera_lines


@pytest.mark.skipif(cameras.has_gstreamer(), reason="this OpenCV has GStreamer")
def test_a_csi_camera_without_gstreamer_is_refused_with_the_remedy():
    remedy = r"csi://0: needs an OpenCV with GStreamer.*NumPy 2.*gst-launch-1\.0.*docs/jetson\.md"
    with pytest.raises(SourceError, match=remedy):
        open_source("csi://0")


@pytest.mark.parametrize("text", ["csi://", "csi://one", "csi://0/1", "csi://-1", "csi://²"])
def test_a_csi_camera_without_a_number_is_refused(text):
    with pytest.raises(SourceError, match="as in csi://0"):
        csi_pipeline(text, SourceSettings())


def test_a_csi_camera_is_opened_through_gstreamer_in_the_requested_mode(monkeypatch):
    """OpenCV is replaced, since only a Jetson has the elements of the pipeline."""
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


def test_list_cameras_reports_that_there_is_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(source_options, "camera_lines", functools.partial(camera_lines, tmp_path))
    assert webcam.main(["--list-cameras"]) == 0
    assert capsys.readouterr().out.startswith("no cameras: there is no /dev/video*; plug one in")


def fake_driver(device: int, request: int, query: bytes) -> bytes:
    """The ioctl of a webcam with two formats, one with two sizes, the other with a range."""
    index, second = struct.unpack_from("=II", query)
    formats = [b"MJPG", b"YUYV"]
    if request == v4l2.FORMAT and index < len(formats):
        return query[:44] + formats[index] + query[48:]
    discrete = [(640, 480), (1280, 720)]
    pixels = struct.pack("=I", second)
    if request == v4l2.SIZE and pixels == b"MJPG" and index < len(discrete):
        return struct.pack("=5I", index, second, 1, *discrete[index]).ljust(len(query), b"\0")
    if request == v4l2.SIZE and pixels == b"YUYV":
        return struct.pack("=9I", index, second, 3, 32, 640, 2, 16, 480, 2).ljust(len(query), b"\0")
    raise OSError(errno.EINVAL, "Invalid argument")


def test_cameras_are_listed_by_number_with_names_formats_and_sizes(tmp_path, monkeypatch):
    devices, classes = tmp_path / "dev", tmp_path / "sys" / "class" / "video4linux"
    for number, name in ((10, "Second"), (2, "First camera"), (3, None)):
        devices.mkdir(exist_ok=True)
        (devices / f"video{number}").touch()
        if name:
            (classes / f"video{number}").mkdir(parents=True)
            (classes / f"video{number}" / "name").write_text(name + "\n", encoding="utf-8")
    (devices / "videos").touch()
    assert camera_lines(tmp_path)[0].startswith("2  /dev/video2  First camera: gives no frames")  # plain files
    monkeypatch.setattr(fcntl, "ioctl", fake_driver)
    formats = "MJPG 640x480 1280x720; YUYV 32x16 to 640x480"
    assert camera_lines(tmp_path) == [
        f"2  /dev/video2  First camera: {formats}",
        f"3  /dev/video3  (unnamed): {formats}",
        f"10  /dev/video10  Second: {formats}",
    ]


def test_cameras_leave_out_metadata_nodes_and_report_absent_devices(tmp_path):
    for number, index, present in ((0, 0, True), (1, 1, True), (10, 0, True), (2, 0, False)):
        folder = tmp_path / "sys" / "class" / "video4linux" / f"video{number}"
        folder.mkdir(parents=True)
        (folder / "index").write_text(f"{index}\n", encoding="utf-8")
        (tmp_path / "dev").mkdir(exist_ok=True)
        if present:
            (tmp_path / "dev" / f"video{number}").touch()
    assert [(camera.number, camera.present) for camera in v4l2.cameras(tmp_path)] == [(0, True), (2, False), (10, True)]
    assert [camera.number for camera in v4l2.cameras(tmp_path, every_node=True)] == [0, 1, 2, 10]


@pytest.mark.skipif(
    not shutil.which("cc") or not Path("/usr/include/linux/videodev2.h").exists(),
    reason="needs a C compiler and Linux's headers (apt-get install gcc libc6-dev)",
)
def test_the_requests_to_the_driver_are_those_of_the_kernels_own_header(tmp_path):
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
    printed = subprocess.run([str(program)], capture_output=True, check=True).stdout.decode()
    expected = (v4l2.FORMAT, v4l2.FORMAT_BYTES, 44, v4l2.SIZE, v4l2.SIZE_BYTES, 8, 8 + 4 + 4 * 4)
    assert printed == " ".join(map(str, (*expected, v4l2.VIDEO_CAPTURE, v4l2.DISCRETE)))
