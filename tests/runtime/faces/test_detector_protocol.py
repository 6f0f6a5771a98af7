"""Any function from an image to detections is a detector: in frames, in photographs and over time."""

from __future__ import annotations

import numpy as np
import pytest

from iern.runtime.errors import ArgumentError, ImageError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.detector_protocol import (
    PhotographDetector,
    WindowDetector,
    faces_in_frame,
    faces_in_photograph,
)
from iern.runtime.faces.search import FaceFinder
from iern.runtime.faces.tracker import FaceTracker
from iern.runtime.imaging.detection import MEAN_FACE, Detection

GREY = np.full((48, 64), 90, np.uint8)


class NotingDetector:
    """Finds two faces, the weaker one first, and notes what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[str, tuple[int, ...]]] = []

    def __call__(self, image: np.ndarray) -> tuple[Detection, ...]:
        self.given.append(("call", image.shape))
        return Detection(5, 5, 10, 10, score=0.5), Detection(30, 20, 10, 12, score=0.9)


class WithPhotographs(NotingDetector):
    def in_photograph(self, image: np.ndarray) -> list[Detection]:
        self.given.append(("photograph", image.shape))
        return []


def test_ours_has_all_methods_and_a_function_none_of_the_optional_ones():
    ours = FaceDetector(threads=1)
    assert isinstance(ours, PhotographDetector) and isinstance(ours, WindowDetector)
    assert not isinstance(NotingDetector(), PhotographDetector | WindowDetector)
    assert isinstance(WithPhotographs(), PhotographDetector) and not isinstance(WithPhotographs(), WindowDetector)


@pytest.mark.parametrize("search", [faces_in_frame, faces_in_photograph])
def test_a_detector_gets_bgr_and_its_faces_come_best_first(search):
    detector = NotingDetector()
    assert [face.score for face in search(detector, GREY)] == [0.9, 0.5]
    assert detector.given == [("call", (48, 64, 3))]
    with pytest.raises(ImageError):
        search(detector, np.zeros(3))


def test_a_detector_with_a_way_for_photographs_is_asked_that_way():
    detector = WithPhotographs()
    assert faces_in_photograph(detector, GREY) == []
    assert len(faces_in_frame(detector, GREY)) == 2
    assert detector.given == [("photograph", (48, 64, 3)), ("call", (48, 64, 3))]


def test_the_tracked_search_gives_every_whole_frame_to_a_detector_without_windows():
    detector = NotingDetector()
    find, tracker = FaceFinder(detector, "tracked"), FaceTracker()
    ids = [tracker.update(find(GREY, index / 30), index / 30) for index in range(4)]
    assert detector.given == [("call", (48, 64, 3))] * 4
    assert ids == [[1, 2]] * 4, "faces without landmarks are followed by their boxes"
    find(GREY, 1.0, photograph=True)
    assert len(detector.given) == 5


def test_the_tracker_follows_a_face_without_landmarks_as_one_with_those_of_its_box():
    def found(x: float, with_landmarks: bool) -> Detection:
        landmarks = np.array([x + 20, 50.0]) + 48 * MEAN_FACE  # the box's centre and its longer side
        return Detection(x, 26, 40, 48, landmarks if with_landmarks else None)

    tracker = FaceTracker()
    ids = [tracker.update([found(10 + 6 * step, step % 2 == 0)], step / 10) for step in range(6)]
    assert ids == [[1]] * 6


NOT_FACES = {
    "nothing": (None, "the detector .*returned NoneType; expected a list of iern.Detection"),
    "array": (np.zeros((1, 4)), "returned ndarray; expected a list"),
    "tuples": ([(1, 2, 3, 4)], "returned a list with tuple; expected a list"),
    "text": ("face", "returned str; expected a list"),
    "nan": ([Detection(1, float("nan"), 3, 4)], "returned a face with .*nan.*finite"),
    "no score": ([Detection(1, 2, 3, 4, score=None)], "returned a face with .*None"),
    "width": ([Detection(1, 2, 0, 4)], "width and height above 0"),
    "landmarks": ([Detection(1, 2, 3, 4, np.zeros((4, 2)))], r"expected None, or an array \(5, 2\)"),
    "landmarks as a list": ([Detection(1, 2, 3, 4, [[0, 0]] * 5)], r"expected None, or an array \(5, 2\)"),
    "nan landmarks": ([Detection(1, 2, 3, 4, np.full((5, 2), np.nan))], "finite numbers"),
}


@pytest.mark.parametrize(("returned", "message"), NOT_FACES.values(), ids=NOT_FACES)
def test_a_detector_that_returns_anything_but_faces_is_named_with_what_is_expected(returned, message):
    def my_detector(image: np.ndarray) -> object:
        return returned

    with pytest.raises(ArgumentError, match=message) as refused:
        faces_in_photograph(my_detector, GREY)
    assert "my_detector" in str(refused.value)
