"""The agreement of two searches is that of a count by hand, and the command writes its page."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.detection import __main__ as command
from benchmarks.detection.figures import compare
from benchmarks.detection.report import markdown
from benchmarks.detection.sequences import Person, bundled_people, people_of, sequences
from iern.runtime.errors import DataError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.search import FaceFinder
from iern.runtime.imaging.detection import Detection
from repository import PHOTOS


@pytest.fixture(scope="module")
def people() -> list[Person]:
    return bundled_people()


def box(x: float, side: float = 100) -> Detection:
    return Detection(x, 50, side, side, np.full((5, 2), x + side / 2), 0.9)


def test_faces_are_compared_box_by_box():
    expected = [[box(0), box(300)], [box(0), box(300)], [box(0)], []]
    found = [[box(0)], [box(10), box(300)], [box(90)], [box(500)]]
    figures = compare(expected, found, [0.0, 0.1, 0.2, 0.3])
    assert (figures["faces"], figures["found"], figures["extra"]) == (5, 3, 2), "a box far off is not the same face"
    assert figures["iou"] == pytest.approx((1 + 9 / 11 + 1) / 3)
    assert figures["least_iou"] == pytest.approx(9 / 11)
    assert figures["delay"] == pytest.approx(0.1), "the second face"
    assert figures["tracks"] == 2


def test_a_track_switch_is_a_face_that_changes_its_number_in_one_search_only():
    expected = [[box(0), box(300)]] * 3
    swapped = [[box(0), box(300)], [], [box(0), box(300)]]
    assert compare(expected, swapped, [0.0, 0.1, 0.2])["switches"] == 0
    assert compare(expected, swapped, [0.0, 0.1, 5.0])["switches"] == 0, "both get new numbers"
    assert compare([[box(0)]] * 30, [[box(0)], *[[]] * 28, [box(0)]], [n / 20 for n in range(30)])["switches"] == 1


def test_the_bundled_clip_has_four_people_and_a_made_face_is_where_its_motion_says(people):
    assert len(people) == 4
    made = {clip.name: clip for clip in sequences(people)}
    image, seconds = next(made["1 face"].frames())
    (face,) = FaceDetector(threads=1)(image)
    assert (image.shape, seconds) == ((480, 640, 3), 0.0)
    assert face.x + face.width / 2 == pytest.approx(320 + 0.3 * 150, abs=10)
    assert max(face.width, face.height) == pytest.approx(150, rel=0.15)


def test_a_sequence_is_the_same_each_time(people):
    cross = next(clip for clip in sequences(people) if clip.name == "cross")
    for (one, _), (other, _), _ in zip(cross.frames(), cross.frames(), range(3), strict=False):
        np.testing.assert_array_equal(one, other)


def test_people_who_cross_are_found_in_every_frame_and_keep_their_numbers(people):
    """One of them is hidden for a moment, and comes out from behind the other between two whole searches."""
    cross = next(clip for clip in sequences(people) if clip.name == "cross")
    detector, frames = FaceDetector(threads=1), list(cross.frames())
    find = FaceFinder(detector)
    whole, tracked = [detector(image) for image, _ in frames], [find(image, seconds) for image, seconds in frames]
    figures = compare(whole, tracked, [seconds for _, seconds in frames])
    assert figures["faces"] < 2 * len(frames)
    assert (figures["found"], figures["extra"], figures["switches"]) == (figures["faces"], 0, 0)


def test_people_are_taken_from_a_folder(tmp_path):
    assert len(people_of(PHOTOS)) == 4
    with pytest.raises(DataError, match="found no image with a face"):
        people_of(tmp_path)


@pytest.mark.slow
def test_the_command_measures_a_sequence_and_writes_its_page(tmp_path):
    out = tmp_path / "out.json"
    assert command.main(["--only", "appear", "--json", str(out)]) == 0
    results = json.loads(out.read_text(encoding="utf-8"))
    (row,) = results["sequences"]
    assert (row["frames"], row["tracks"], row["engines"]["found"]) == (60, 6, row["engines"]["faces"])
    assert row["whole"] <= 12 + 2
    assert row["delay"] <= 0.25
    assert (tmp_path / "out.md").read_text(encoding="utf-8") == markdown(results)
