"""Streams through GStreamer, with Debian's OpenCV in the system's Python, which has it, and a real server."""

from __future__ import annotations

import functools
import subprocess
import textwrap

import pytest

from doubles.servers.rtsp_server import PYTHON, free_port, rtsp_problem, rtsp_server
from iern.runtime.sources.streams import rtsp_pipeline
from repository import ROOT


@functools.cache
def problem() -> str:
    probe = "import cv2; assert cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)"
    if rtsp_problem() or subprocess.run([PYTHON, "-c", probe], capture_output=True, check=False).returncode:
        return rtsp_problem() or "no OpenCV with GStreamer: apt-get install python3-opencv"
    return ""


@pytest.mark.slow
@pytest.mark.skipif(bool(problem()), reason=problem() or "-")
def test_an_opencv_with_gstreamer_reads_rtsp_through_it_reopens_it_and_hides_the_password():
    port, user, password = free_port(), "user", "s3:cr&t"
    program = textwrap.dedent(
        f"""
        import itertools, logging, sys
        sys.path.insert(0, {str(ROOT / ".typecheck")!r})
        logging.basicConfig(stream=sys.stdout)
        from iern.runtime.sources.open_source import open_source
        with open_source("rtsp://{user}:{password}@127.0.0.1:{port}/cam") as source:
            print(source.name, "|", source.details, flush=True)
            print(next(frame for frame in source if frame.segment == 1).image.shape, flush=True)
        print(source.note)
        """
    )
    with rtsp_server(port, user=user, password=password):
        process = subprocess.Popen([PYTHON, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout
        first = process.stdout.readline()
    with rtsp_server(port, size="640x360", user=user, password=password):
        output, errors = process.communicate(timeout=120)
    assert first.decode() == f"rtsp://127.0.0.1:{port}/cam | 320x240, 25 fps, read by GStreamer\n"
    assert process.returncode == 0, errors
    assert b"(360, 640, 3)" in output
    assert b"reopened 1 time" in output
    assert password.encode() not in output + errors


def test_a_url_cannot_break_out_of_the_pipeline():
    assert '"rtsp://host/%22%20!%20filesink" ' in rtsp_pipeline('rtsp://host/"%20!%20filesink')
