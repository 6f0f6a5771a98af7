"""What is asked for on the command line comes about, and nothing else: nothing is written, and nothing leaves."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import threading
import time

import cv2
import numpy as np
import pytest

from doubles.made_up_results import played
from doubles.servers.mosquitto_broker import INSTALL, PROGRAM, free_port, mosquitto
from iern.runtime.app.command_line import RECORDINGS
from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.webcam import main


def watch_clip(model: str, *more: str, frames: int = 12) -> None:
    """The command on the first frames of the bundled clip."""
    arguments = ["--headless", "--source", str(DEMO_CLIP), "--model", model, "--max-frames", str(frames)]
    assert main([*arguments, *more]) == 0


def test_faces_are_looked_for_in_every_nth_frame_where_that_is_asked_for(monkeypatch, model):
    detect, calls = FaceDetector.__call__, []

    def counted(self, frame):
        calls.append(len(found := detect(self, frame)))
        return found

    monkeypatch.setattr(FaceDetector, "__call__", counted)
    watch_clip(model)
    before = len(calls)
    assert calls[1:].count(0) == 0, "the clip begins with a face, and the first call is the warm-up"
    watch_clip(model, "--detect-every", "4")
    assert before >= 1 + 12
    assert len(calls) - before <= 1 + 4, "one more than asked for: frames are judged ahead of those that are counted"


def test_the_session_is_told_on_a_page(tmp_path, capsys, model):
    path = tmp_path / "session.html"
    watch_clip(model, "--summary", str(path))
    told = path.read_text(encoding="utf-8")
    assert "12 (" in told and "face 1" in told and "clip" not in told.partition("<body")[0]
    assert f"wrote {path}" in capsys.readouterr().out


@pytest.mark.skipif(PROGRAM is None, reason=INSTALL)
@pytest.mark.skipif(importlib.util.find_spec("paho") is None, reason="needs paho-mqtt: pip install 'iern[mqtt]'")
def test_the_records_reach_a_broker(tmp_path, model):
    import paho.mqtt.client as paho

    port, got, ready = free_port(), [], threading.Event()
    with mosquitto(tmp_path, port):
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.on_connect = lambda *_: client.subscribe("hall/faces", qos=1)
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = lambda _client, _data, message: got.append(json.loads(message.payload))
        client.connect("127.0.0.1", port)
        client.loop_start()
        assert ready.wait(30)
        lines = tmp_path / "out.jsonl"
        watch_clip(model, "--mqtt", f"mqtt://127.0.0.1:{port}/hall/faces", "--jsonl", str(lines))
        deadline = time.monotonic() + 60
        while len(got) < 12 and time.monotonic() < deadline:
            time.sleep(0.05)
        client.disconnect()
        client.loop_stop()
    written = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert [{**made, "start": ""} for made in got] == [{**made, "start": ""} for made in written]


@pytest.mark.parametrize("suffix", RECORDINGS)
def test_a_folder_of_mixed_odd_sizes_is_watched_and_recorded_whole(tmp_path, capsys, model, suffix):
    """OpenCV's own writer makes 320x240 of the first, and drops the others without a word."""
    sizes = ((321, 241), (1, 1), (4096, 17), (17, 4096))
    (tmp_path / "photos").mkdir()
    for number, (width, height) in enumerate(sizes):
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), np.full((height, width, 3), 90, np.uint8))
    video, lines, page = (tmp_path / name for name in (f"out{suffix}", "out.jsonl", "out.html"))
    outputs = ["--record", str(video), "--jsonl", str(lines), "--summary", str(page)]
    assert main(["--headless", "--source", str(tmp_path / "photos"), "--model", model, *outputs]) == 0
    names = [json.loads(line)["name"] for line in lines.read_text(encoding="utf-8").splitlines()]
    assert names == [f"{number}.png" for number in range(4)]
    shapes = [[image.shape[1::-1] for image in played(path)] for path in sorted(tmp_path.glob(f"out*{suffix}"))]
    assert sorted(shapes) == sorted([[sizes[0]] * 2, [sizes[2]], [sizes[3]]])
    assert capsys.readouterr().out.count("the recording goes on in") == 2


@pytest.mark.parametrize("more", [[], ["--jsonl", "out.jsonl"]])
def test_nothing_leaves_the_machine_and_nothing_is_written_that_was_not_asked_for(tmp_path, model, more):
    """As Python itself reports it: every file that is opened to be written, every use of the network, every program."""
    program = textwrap.dedent(
        f"""
        import os, sys
        told = []

        def note(event, arguments):
            if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
                told.append(os.path.basename(str(arguments[0])))
            elif event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn")):
                told.append(event)

        sys.addaudithook(note)
        from iern.runtime.webcam import main
        asked = ["--headless", "--source", {str(DEMO_CLIP)!r}, "--model", {model!r}, "--max-frames", "5"]
        status = main([*asked, *{more}])
        print(told, file=sys.stderr)
        sys.exit(status)
        """
    )
    command = [sys.executable, "-B", "-c", program]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    expected = more[1:]
    assert (result.returncode, result.stderr) == (0, f"{expected}\n")
    assert os.listdir(tmp_path) == expected
