"""After SIGKILL of the real command, its recording can be played and its records can be read."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from doubles.made_up_results import played, times
from doubles.servers.mjpeg_server import mjpeg_server
from doubles.tiny_artifact import tiny_model
from iern.runtime.app.command_line import RECORDINGS

SECONDS = 4.0


@pytest.mark.slow
@pytest.mark.parametrize("suffix", RECORDINGS)
def test_a_killed_loop_leaves_nearly_all_frames_and_records(tmp_path, suffix):
    model, video, lines = tmp_path / "tiny.onnx", tmp_path / f"out{suffix}", tmp_path / "out.jsonl"
    model.write_bytes(tiny_model())
    ramp = np.tile(np.linspace(0, 200, 320, dtype=np.uint8), (240, 1))
    images = [cv2.cvtColor(np.roll(ramp, 7 * index, 1), cv2.COLOR_GRAY2BGR) for index in range(600)]
    with mjpeg_server(images, pause=1 / 12) as address:
        command = [sys.executable, "-m", "iern.runtime.webcam", "--source", f"http://{address}/cam", "--headless"]
        command += ["--model", str(model), "--record", str(video), "--jsonl", str(lines)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not video.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        began = time.monotonic()
        time.sleep(SECONDS)
        process.kill()
        process.wait()
        elapsed = time.monotonic() - began
    records = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    shown = played(video)
    assert len(records) > 4
    assert len(shown) >= 0.8 * len(records)
    assert all(image.shape == (240, 320, 3) for image in shown)
    recorded, watched = times(video)[-1], records[-1]["time"] - records[0]["time"]
    assert recorded == pytest.approx(watched, abs=1), "the time of the recording is the camera's"
    assert recorded == pytest.approx(elapsed, abs=2)
