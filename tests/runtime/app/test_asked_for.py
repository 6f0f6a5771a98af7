"""Every command-line option takes effect, and nothing else is written or sent."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time

import cv2
import numpy as np
import pytest

from doubles.made_up_results import played
from doubles.pasted_faces import pasted_faces
from doubles.servers.mosquitto_broker import INSTALL, PROGRAM, free_port, mosquitto
from iern.runtime.app.command_line import RECORDINGS
from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.webcam import main


def watch_clip(model: str, *more: str, frames: int = 12) -> None:
    """Run the command on the first frames of the bundled clip."""
    arguments = ["--headless", "--source", str(DEMO_CLIP), "--model", model, "--max-frames", str(frames)]
    assert main([*arguments, *more]) == 0


def test_search_decides_how_often_the_whole_frame_is_searched(monkeypatch, model):
    detect, calls = FaceDetector.__call__, []

    def counted(self, frame):
        calls.append(len(found := detect(self, frame)))
        return found

    monkeypatch.setattr(FaceDetector, "__call__", counted)
    watch_clip(model, "--search", "every-frame")
    in_every_frame = len(calls)
    assert in_every_frame >= 1 + 12
    assert calls[1:].count(0) == 0, "the clip begins with a face, and the first call is the warm-up"
    watch_clip(model)
    # Frames are analyzed ahead of those that are counted. The clip has 15 a second.
    assert len(calls) - in_every_frame <= 2 + in_every_frame / 3


def test_detect_size_decides_how_small_the_faces_are_and_images_decide_for_themselves(tmp_path, model):
    image, centres = pasted_faces(1600, 120, [28] * 9)
    photo, clip, lines = tmp_path / "group.png", tmp_path / "clip.avi", tmp_path / "out.jsonl"
    cv2.imwrite(str(photo), image)
    video = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 10, image.shape[1::-1])
    video.write(image)
    video.release()

    def faces(source: object, *more: str) -> int:
        arguments = ["--headless", "--source", str(source), "--model", model, "--jsonl", str(lines)]
        assert main([*arguments, *more]) == 0
        return len(json.loads(lines.read_text(encoding="utf-8"))["faces"])

    assert (faces(photo), faces(photo, "--detect-size", "640")) == (len(centres), 0)
    assert (faces(clip), faces(clip, "--detect-size", "1600")) == (0, len(centres))


def test_summary_writes_a_page_about_the_session(tmp_path, capsys, model):
    path = tmp_path / "session.html"
    watch_clip(model, "--summary", str(path))
    page = path.read_text(encoding="utf-8")
    assert "12 (" in page and "face 1" in page and "clip" not in page.partition("<body")[0]
    assert f"wrote {path}" in capsys.readouterr().out


@pytest.mark.skipif(PROGRAM is None, reason=INSTALL)
@pytest.mark.skipif(importlib.util.find_spec("paho") is None, reason="needs paho-mqtt: pip install 'iern[mqtt]'")
def test_mqtt_publishes_the_records(tmp_path, model):
    import paho.mqtt.client as paho

    port, received, ready = free_port(), [], threading.Event()
    with mosquitto(tmp_path, port):
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.on_connect = lambda *_: client.subscribe("hall/faces", qos=1)
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = lambda _client, _data, message: received.append(json.loads(message.payload))
        client.connect("127.0.0.1", port)
        client.loop_start()
        assert ready.wait(30)
        lines = tmp_path / "out.jsonl"
        watch_clip(model, "--mqtt", f"mqtt://127.0.0.1:{port}/hall/faces", "--jsonl", str(lines))
        deadline = time.monotonic() + 60
        while len(received) < 12 and time.monotonic() < deadline:
            time.sleep(0.05)
        client.disconnect()
        client.loop_stop()
    written = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert [{**record, "start": ""} for record in received] == [{**record, "start": ""} for record in written]


@pytest.mark.parametrize("suffix", RECORDINGS)
def test_a_folder_of_mixed_odd_sizes_is_watched_and_recorded_whole(tmp_path, capsys, model, suffix):
    """OpenCV's own writer makes 320x240 of the first, and drops the others silently."""
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
    even = [(width + width % 2, height + height % 2) for width, height in sizes]
    assert sorted(shapes) == sorted([[even[0]] * 2, [even[2]], [even[3]]])
    assert capsys.readouterr().out.count("the recording continues in") == 2


def test_annotate_writes_the_pictures_of_a_folder_and_its_sub_folders_and_prints_their_boxes(tmp_path, capsys, model):
    image, (centre,) = pasted_faces(400, 300, [120])
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        cv2.imwrite(str(tmp_path / "photos" / name), image)
    lines = tmp_path / "out.jsonl"
    arguments = ["--source", str(tmp_path / "photos"), "--annotate", str(tmp_path / "out"), "--jsonl", str(lines)]
    assert main(["--headless", "--model", model, *arguments]) == 0
    printed = capsys.readouterr().out
    assert f"wrote {tmp_path / 'out'}" in printed
    for line in lines.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        x, y, width, height = record["faces"][0]["box"]
        assert x < centre[0] < x + width and y < centre[1] < y + height
        assert re.search(
            rf"^{record['name']}: .* {re.escape(str([round(v) for v in (x, y, width, height)]))}$",
            printed,
            re.MULTILINE,
        )
        written = cv2.imread(str(tmp_path / "out" / record["name"]))
        changed = np.argwhere(np.any(written != image, axis=2))
        assert written.shape == image.shape
        assert changed[:, 0].max() >= round(y + height) and changed[:, 1].min() <= round(x)


def test_annotate_refuses_a_video_and_names_record(tmp_path, capsys, model):
    arguments = ["--headless", "--source", str(DEMO_CLIP), "--model", model, "--annotate", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "--annotate is for an image or a folder; --record writes a video" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [[], ["--jsonl", "out.jsonl"]])
def test_nothing_is_sent_and_nothing_is_written_without_an_option_for_it(tmp_path, model, more):
    """Python's audit events report every file opened for writing, every socket and every started program."""
    program = textwrap.dedent(
        f"""
        import os, sys
        events = []

        def note(event, arguments):
            if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
                events.append(os.path.basename(str(arguments[0])))
            elif event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn")):
                events.append(event)

        sys.addaudithook(note)
        from iern.runtime.webcam import main
        arguments = ["--headless", "--source", {str(DEMO_CLIP)!r}, "--model", {model!r}, "--max-frames", "5"]
        status = main([*arguments, *{more}])
        print(events, file=sys.stderr)
        sys.exit(status)
        """
    )
    command = [sys.executable, "-B", "-c", program]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    expected = more[1:]
    assert (result.returncode, result.stderr) == (0, f"{expected}\n")
    assert os.listdir(tmp_path) == expected
