"""Flicker and delay are those of a count by hand, and the command runs to its end. What it finds is not asserted."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.flicker import __main__ as flicker
from benchmarks.flicker.report import markdown
from benchmarks.flicker.sequence import (
    ExpressionChange,
    agreement,
    camera_frames,
    changes_of,
    delay,
    is_known,
    label_changes,
    read_truth,
    stills_of,
)
from doubles.tiny_artifact import tiny_model
from iern.runtime.errors import DataError
from repository import PHOTOS

PHOTO = PHOTOS / "astronaut.jpg"
TRUTH = [("sad",), ("sad",), ("happy",), ("happy",), ("happy", "sad"), ("happy", "sad"), ("sad", "sad")]


def table(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["frame,left,strength,right", *rows]) + "\n", encoding="utf-8")
    return path


def test_the_truth_is_read_face_by_face_from_left_to_right(tmp_path):
    rows = ["0,sad,1.0,", "1,happy,0.5,", "2,happy,1.0,neutral"]
    assert read_truth(table(tmp_path / "t.csv", rows)) == [("sad",), ("happy",), ("happy", "neutral")]


@pytest.mark.parametrize("rows", [[], ["1,sad,1.0,"], ["0,sad,1.0,", "2,sad,1.0,"]])
def test_a_table_without_every_frame_is_refused(tmp_path, rows):
    with pytest.raises(DataError, match="expected rows of frame"):
        read_truth(table(tmp_path / "t.csv", rows))


def test_changes_are_those_of_faces_that_stay():
    assert changes_of(TRUTH) == [ExpressionChange(0, 2, 6, "happy"), ExpressionChange(0, 6, 7, "sad")]


def test_stills_are_the_first_and_the_middle_frame_of_every_stretch():
    assert stills_of(TRUTH) == [0, 1, 2, 3, 4, 5, 6]
    assert stills_of([("sad",)] * 10 + [("happy",)] * 11) == [0, 5, 10, 15]


def test_label_changes_are_counted_by_face():
    assert label_changes([("a",), ("a",), ("b",), ("uncertain",)]) == 2
    assert label_changes([("a", "b"), ("b", "a"), ("b",), ("a", "a")]) == 2, "faces that come and go change no label"


def test_the_delay_runs_from_the_true_change_to_the_first_frame_with_that_label():
    change, seconds = ExpressionChange(0, 2, 5, "happy"), [0.0, 0.1, 0.3, 0.4, 0.7, 0.8]
    assert delay([("happy",)] * 6, seconds, change) == 0
    assert delay([("sad",)] * 4 + [("happy",)] * 2, seconds, change) == pytest.approx(0.4)
    assert delay([("sad",)] * 5 + [("happy",)], seconds, change) is None, "too late: it changed again"


def test_a_change_is_known_if_most_frames_until_the_next_have_the_right_label():
    labels = [("sad", "x"), ("happy", "x"), ("sad", "x"), ("happy", "x"), ("happy",), ("sad",)]
    assert is_known(labels, ExpressionChange(0, 0, 5, "happy"))
    assert not is_known(labels, ExpressionChange(0, 0, 6, "happy")), "half is not most"
    assert not is_known(labels, ExpressionChange(1, 0, 6, "happy"))


def test_agreement_counts_every_true_face_once():
    found = [("sad",), ("happy",), ("uncertain",), (), ("happy", "sad"), ("happy",), ("sad", "happy")]
    assert agreement(found, TRUTH) == {"right": 5 / 10, "wrong": 2 / 10, "uncertain": 1 / 10, "missed": 2 / 10}


def test_a_noisy_still_differs_from_frame_to_frame_and_is_the_same_in_every_run():
    image = np.full((48, 64, 3), 128, np.uint8)
    first, second = (list(camera_frames(image, 3, seed=5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first[0] != first[1]).mean() > 0.5
    assert first[0].std() == pytest.approx(15, rel=0.1)


def test_the_best_setting_has_the_fewest_changes_of_those_that_follow_in_time():
    def row(half_life: float, flicker: float, delays: list[float | None], margin: float = 0.1) -> dict:
        known = [True, True, False]  # the third had that label by chance only
        return {"half_life": half_life, "margin": margin, "flicker": flicker, "delays": delays, "known": known}

    rows = [
        row(0.0, 5.0, [0.1, 0.0, 0.3]),
        row(0.1, 2.0, [0.14, 0.04, None]),
        row(0.2, 1.0, [0.18, 0.08, None]),
        row(0.2, 0.98, [0.18, 0.08, None], margin=0.2),
        row(0.3, 0.5, [0.3, 0.2, 0.3]),
        row(0.4, 0.0, [0.1, None, None]),
    ]
    assert flicker._best_setting(rows) is rows[2], "the next one is hardly better, and its margin is wider"
    assert [r["added_delay"] for r in rows] == pytest.approx([0, 0.04, 0.08, 0.08, 0.2, 0])
    assert [r["followed"] for r in rows] == [2, 2, 2, 2, 2, 1]


@pytest.mark.slow
def test_the_command_measures_a_video_and_writes_its_page(tmp_path):
    picture = cv2.resize(cv2.imread(str(PHOTO)), (320, 320))
    writer = cv2.VideoWriter(str(tmp_path / "video.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (320, 320))
    for index in range(6):
        writer.write(picture if index < 3 else np.minimum(picture, np.array([255, 60, 60], np.uint8)))
    writer.release()
    truth = table(tmp_path / "t.csv", [f"{i},{'happy' if i < 3 else 'sad'},1.0," for i in range(6)])
    (tmp_path / "tiny.onnx").write_bytes(tiny_model())
    files = ["--video", str(tmp_path / "video.avi"), "--truth", str(truth), "--model", str(tmp_path / "tiny.onnx")]
    assert flicker.main([*files, "--still-frames", "3", "--json", str(tmp_path / "out.json")]) == 0
    results = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert (results["film"]["frames"], results["film"]["changes"], results["stills"]["count"]) == (6, 1, 4)
    assert results["sweep"][0]["added_delay"] in (0, None)
    page = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert page == markdown(results)
    assert "| **" in page


def test_a_table_of_another_video_is_refused(tmp_path, capsys):
    (tmp_path / "tiny.onnx").write_bytes(tiny_model())
    truth = table(tmp_path / "t.csv", ["0,sad,1.0,", "1,sad,1.0,"])
    files = ["--video", str(PHOTO), "--truth", str(truth), "--model", str(tmp_path / "tiny.onnx")]
    assert flicker.main([*files, "--json", str(tmp_path / "out.json")]) == 1
    assert "has 1 frames, t.csv has 2" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
