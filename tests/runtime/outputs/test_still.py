"""Still pictures, JSON lines and printed lines: whole, or absent."""

from __future__ import annotations

import dataclasses
import json
import os

import cv2
import numpy as np
import pytest

from doubles.made_up_results import grey_result
from iern.runtime.errors import OutputError
from iern.runtime.faces.face import Face
from iern.runtime.imaging.detection import Detection
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.records import json_lines
from iern.runtime.outputs.still import annotated_pictures, print_expressions, still_picture
from iern.runtime.sources.base import Frame
from iern.runtime.system.latency import Latency


def test_an_error_leaves_no_half_written_file_and_an_older_one_untouched(tmp_path):
    older = tmp_path / "older.png"
    older.write_bytes(b"older")
    for path in (older, tmp_path / "new.png"):
        with pytest.raises(RuntimeError, match="the loop fails"), still_picture(path) as write:
            write(grey_result(100))
            raise RuntimeError("the loop fails")
    assert os.listdir(tmp_path) == ["older.png"]
    assert older.read_bytes() == b"older"


def test_without_frames_there_is_no_picture(tmp_path):
    with still_picture(tmp_path / "out.png"):
        pass
    assert os.listdir(tmp_path) == []


def test_the_still_is_the_last_of_the_frames_with_the_most_faces(tmp_path):
    path = tmp_path / "still.png"
    results = [grey_result(10, faces=1), grey_result(20, faces=2), grey_result(30, faces=2), grey_result(40, faces=0)]
    with still_picture(path) as consider:
        for result in results:
            consider(result)
    assert np.array_equal(cv2.imread(str(path)), results[2].annotated)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
def test_the_still_may_be_a_jpeg(tmp_path, suffix):
    path = tmp_path / f"still{suffix}"
    with still_picture(path) as consider:
        consider(grey_result(90))
    assert path.read_bytes()[:2] == b"\xff\xd8"


def test_json_lines_hold_one_record_a_frame_in_utf_8(tmp_path):
    path = tmp_path / "out.jsonl"
    faces = [Face(Detection(0, 0, 1, 1, np.zeros((5, 2)), 1), {"fröhlich": 1.0}, 0.0)]
    frame = Frame(np.zeros((8, 8, 3), np.uint8), 0.5, 3, "Straße.mp4", 0.0)
    with json_lines(path) as write:
        write(FrameResult(frame, faces, Latency(1, 1, 1, 3), ""))
        write(grey_result(4))
    lines = path.read_bytes().decode("utf-8").splitlines()
    first, second = map(json.loads, lines)
    assert (first["name"], first["faces"][0]["expression"]) == ("Straße.mp4", "fröhlich")
    assert (second["frame"], second["faces"]) == (4, [])
    assert "ö" in lines[0]


def test_an_uncertain_face_is_printed_as_uncertain_and_keeps_its_expression_in_the_json_lines(tmp_path, capsys):
    box = Detection(5, 15, 20, 20, np.zeros((5, 2)), 0.9)
    faces = [Face(box, {"happy": 0.45, "sad": 0.55}, 0.0, uncertain) for uncertain in (True, False)]
    result = FrameResult(Frame(np.zeros((48, 64, 3), np.uint8), 0.0, 1, "1.png", 0.0), faces, Latency(1, 1, 1, 3), "")
    print_expressions(result)
    assert capsys.readouterr().out == "1.png: uncertain [5, 15, 20, 20], sad 0.55 [5, 15, 20, 20]\n"
    with json_lines(tmp_path / "out.jsonl") as write:
        write(result)
    written = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["faces"]
    assert [(face["expression"], face["uncertain"]) for face in written] == [("sad", True), ("sad", False)]


def test_expressions_are_printed_a_line_an_image(capsys):
    print_expressions(grey_result(1, faces=2))
    print_expressions(grey_result(2))
    assert capsys.readouterr().out == "1.png: happy 0.75 [5, 15, 20, 20], happy 0.75 [5, 15, 20, 20]\n2.png: no face\n"
    beyond = Face(Detection(-4.2, 30.4, 20, 20, np.zeros((5, 2)), 0.9), {"happy": 1.0}, 0.0)
    print_expressions(dataclasses.replace(grey_result(3), faces=[beyond]))
    assert capsys.readouterr().out == "3.png: happy 1.00 [0, 30, 16, 18]\n", "clipped to the frame of 64x48"


def test_every_picture_is_written_with_its_faces_under_its_own_name_and_replaces_nothing(tmp_path):
    names = {"a.png": "a.png", "b/c/d.PNG": "b/c/d.PNG", "phone.heic": "phone.heic.png", "no suffix": "no suffix.png"}
    results = [named(name, grey_result(level, faces=1)) for level, name in enumerate(names)]
    with annotated_pictures(tmp_path / "out") as write:
        for result in results:
            write(result)
        with pytest.raises(OutputError, match=r"a\.png: exists, and is not replaced"):
            write(named("a.png", grey_result(200)))
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == set(names.values())
    for result, name in zip(results, names.values(), strict=True):
        assert np.array_equal(cv2.imread(str(tmp_path / "out" / name)), result.annotated)


def named(name: str, result: FrameResult) -> FrameResult:
    return dataclasses.replace(result, frame=dataclasses.replace(result.frame, name=name))
