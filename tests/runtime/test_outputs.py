"""Videos, pictures and JSON lines: whole and playable, or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from iern.runtime.detect import Detection
from iern.runtime.errors import OutputError
from iern.runtime.latency import Latency
from iern.runtime.outputs import json_lines, print_answers, recording, still
from iern.runtime.results import Face
from iern.runtime.sources import Frame
from iern.runtime.view import View


def view(level: int, time: float = 0.0, faces: int = 0, width: int = 64, height: int = 48) -> View:
    image = np.full((height, width, 3), level, np.uint8)
    found = [
        Face(Detection(5, 15, 20, 20, np.zeros((5, 2)), 0.9), {"happy": 0.75, "sad": 0.25}, 0.0) for _ in range(faces)
    ]
    return View(Frame(image, time, level, f"{level}.png", 0.0), found, Latency(1, 1, 1, 3), "")


def played(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    images = []
    while True:
        delivered, image = capture.read()
        if not delivered:
            return images
        images.append(image)


def levels(images: Sequence[np.ndarray]) -> list[float]:
    return [float(image.mean()) for image in images]


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".webm", ".MP4"])
def test_a_recording_plays_back_frame_by_frame(tmp_path, capfd, suffix):
    path = tmp_path / f"out{suffix}"
    with recording(path, fps=10) as write:
        for index in range(10):
            write(view(20 * index, index / 10))
        assert not path.exists(), "it appears when it is whole"
    assert levels(played(path)) == pytest.approx([20 * index for index in range(10)], abs=5)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert os.listdir(tmp_path) == [path.name]
    assert capfd.readouterr().err == ""


def test_a_recording_keeps_the_time_of_frames_that_come_late(tmp_path):
    path = tmp_path / "out.avi"
    with recording(path, fps=10) as write:
        for level, time in ((50, 100.0), (100, 100.5), (150, 100.52), (200, 100.9)):
            write(view(level, time))
    assert levels(played(path)) == pytest.approx([50] + 5 * [100] + 4 * [200], abs=4)


def test_a_recording_cuts_the_gap_of_a_lost_stream(tmp_path):
    path = tmp_path / "out.avi"
    with recording(path, fps=10) as write:
        write(view(50, 0.0))
        write(view(100, 3600.0))
    assert len(played(path)) == 11


def test_a_folder_of_images_records_one_a_second_each_fitted_into_the_first(tmp_path):
    path = tmp_path / "out.avi"
    with recording(path, fps=1) as write:
        write(view(100, 0.0, width=128, height=96))
        write(view(200, 1.0, width=64, height=96))
        write(view(150, 2.0, width=1000, height=750))
    first, second, third = played(path)
    assert first.shape == second.shape == third.shape == (96, 128, 3)
    assert second[48, 64].mean() == pytest.approx(200, abs=5)
    assert second[48, 5].mean() == pytest.approx(0, abs=5)
    assert third.mean() == pytest.approx(150, abs=5)


def test_an_odd_size_is_recorded_too(tmp_path):
    path = tmp_path / "out.mp4"
    with recording(path, fps=10) as write:
        write(view(100, width=65, height=49))
    assert levels(played(path)) == pytest.approx([100], abs=5)


def test_an_error_leaves_no_half_written_file_and_an_older_one_untouched(tmp_path):
    older = tmp_path / "older.mp4"
    older.write_bytes(b"older")
    for make, path in (
        (lambda path: recording(path, 10), older),
        (lambda path: recording(path, 10), tmp_path / "new.webm"),
        (json_lines, tmp_path / "new.jsonl"),
        (still, tmp_path / "new.png"),
    ):
        with pytest.raises(RuntimeError, match="the loop fails"), make(path) as write:
            write(view(100))
            raise RuntimeError("the loop fails")
    assert os.listdir(tmp_path) == ["older.mp4"]
    assert older.read_bytes() == b"older"


def test_without_frames_there_is_no_video_and_no_picture(tmp_path):
    with recording(tmp_path / "out.mp4", 10), still(tmp_path / "out.png"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_size_that_no_encoder_takes_is_an_error_and_leaves_nothing(tmp_path):
    message = r"no encoder for 1x1 frames in \.mp4; try another"
    with pytest.raises(OutputError, match=message), recording(tmp_path / "out.mp4", 10) as write:
        write(view(100, width=1, height=1))
    assert os.listdir(tmp_path) == []


def test_the_still_is_the_last_of_the_frames_with_the_most_faces(tmp_path):
    path = tmp_path / "still.png"
    views = [view(10, faces=1), view(20, faces=2), view(30, faces=2), view(40, faces=0)]
    with still(path) as consider:
        for each in views:
            consider(each)
    assert np.array_equal(cv2.imread(str(path)), views[2].annotated)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
def test_the_still_may_be_a_jpeg(tmp_path, suffix):
    path = tmp_path / f"still{suffix}"
    with still(path) as consider:
        consider(view(90))
    assert path.read_bytes()[:2] == b"\xff\xd8"


def test_json_lines_hold_one_record_a_frame_in_utf_8(tmp_path):
    path = tmp_path / "out.jsonl"
    faces = [Face(Detection(0, 0, 1, 1, np.zeros((5, 2)), 1), {"fröhlich": 1.0}, 0.0)]
    frame = Frame(np.zeros((8, 8, 3), np.uint8), 0.5, 3, "Straße.mp4", 0.0)
    with json_lines(path) as write:
        write(View(frame, faces, Latency(1, 1, 1, 3), ""))
        write(view(4))
    lines = path.read_bytes().decode("utf-8").splitlines()
    first, second = map(json.loads, lines)
    assert (first["name"], first["faces"][0]["expression"]) == ("Straße.mp4", "fröhlich")
    assert (second["frame"], second["faces"]) == (4, [])
    assert "ö" in lines[0]


def test_an_uncertain_face_is_printed_as_such_and_its_expression_kept_in_the_json_lines(tmp_path, capsys):
    box = Detection(5, 15, 20, 20, np.zeros((5, 2)), 0.9)
    faces = [Face(box, {"happy": 0.45, "sad": 0.55}, 0.0, uncertain) for uncertain in (True, False)]
    seen = View(Frame(np.zeros((48, 64, 3), np.uint8), 0.0, 1, "1.png", 0.0), faces, Latency(1, 1, 1, 3), "")
    print_answers(seen)
    assert capsys.readouterr().out == "1.png: uncertain, sad 0.55\n"
    with json_lines(tmp_path / "out.jsonl") as write:
        write(seen)
    written = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["faces"]
    assert [(face["expression"], face["uncertain"]) for face in written] == [("sad", True), ("sad", False)]


def test_answers_for_images_are_printed_a_line_an_image(capsys):
    print_answers(view(1, faces=2))
    print_answers(view(2))
    assert capsys.readouterr().out == "1.png: happy 0.75, happy 0.75\n2.png: no face\n"
