"""The benchmark of many cameras: its cameras keep their rate, and its figures are those of its runs."""

from __future__ import annotations

import http.server
import itertools
import threading
import urllib.request

import cv2
import numpy as np
import pytest

from benchmarks.cameras import server
from benchmarks.cameras.report import combined, markdown


def run(fps: list[float], dropped: list[int], ages: list[float], cpu: float) -> dict:
    return {
        "cameras": len(fps),
        "processes": 1,
        "seconds": 10.0,
        "fps": fps,
        "dropped": dropped,
        "age_ms": ages,
        "cpu_seconds_per_second_of_video": cpu,
        "memory_mb": 100.0,
    }


def test_the_figures_of_several_runs_are_medians_and_the_drops_a_share_of_all_frames_that_came():
    figures = combined([run([15, 12], [0, 30], [3, 5], 0.2), run([15, 14], [0, 10], [4], 0.1)])
    assert figures["slowest_fps"] == np.median([12, 14])
    assert figures["dropped_share"] == pytest.approx(40 / (40 + 10 * (15 + 12 + 15 + 14)))
    assert figures["age_ms"] == {"p50": 4, "p99": 5}
    assert figures["cpu_seconds_per_second_of_video"] == pytest.approx(0.15)


def test_a_page_has_a_row_for_each_set_up_also_if_no_frame_came():
    results = {
        "machine": {"processor": "a CPU", "cores": 2},
        "measured": "2026-01-01",
        "command": "python -m it",
        "fps": 15.0,
        "seconds": 6.0,
        "quick": True,
        "figures": [combined([run([0.0], [0], [], 0.1)])],
    }
    assert "| 1 | 1 | 0.0 | 0.0% | none | 0.100 | 100 |" in markdown(results)


def test_a_camera_sends_the_pictures_of_the_clip_in_turn_and_none_before_its_time():
    jpegs = [cv2.imencode(".jpg", np.full((48, 64, 3), level, np.uint8))[1].tobytes() for level in (40, 200)]
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), server.handler(jpegs, fps=20))
    served.daemon_threads = True
    threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        began = server.time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{served.server_port}/1") as stream:
            found = list(itertools.islice(pictures(stream), 4))
        assert found == [jpegs[0], jpegs[1], jpegs[0], jpegs[1]]
        assert server.time.monotonic() - began >= 3 / 20
    finally:
        served.shutdown()
        served.server_close()


def pictures(stream):
    """The body of each part of the stream."""
    while line := stream.readline():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
            stream.readline()
            yield stream.read(length)
