"""The whole frame is searched only now and then, and yet the faces are those of a search of every frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from doubles.pasted_faces import pasted_faces
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.search import LONGEST_WAIT, FaceFinder
from iern.runtime.faces.tracker import FaceTracker
from iern.runtime.faces.windows import SIDE
from iern.runtime.imaging.detection import Detection, intersection_over_union
from iern.runtime.imaging.images import read_image
from repository import PHOTOS

FPS = 30
WHOLE = 640 * 480
"""Pixels of a whole frame."""


class CountingDetector(FaceDetector):
    """The real detector, which notes the pixels of each call of the network."""

    def __init__(self) -> None:
        super().__init__(threads=1)
        self.pixels: list[int] = []
        run = self._yunet

        def counted(pictures):
            self.pixels.append(sum(picture.shape[0] * picture.shape[1] for picture in pictures))
            return run(pictures)

        self._yunet = counted

    def used(self) -> list[int]:
        """The pixels of each call since the last question."""
        used, self.pixels = self.pixels, []
        return used


@pytest.fixture(scope="module")
def still() -> np.ndarray:
    """640 x 480 pixels with one face."""
    image = read_image(PHOTOS / "astronaut.jpg")
    return cv2.resize(image, (640, 640), interpolation=cv2.INTER_AREA)[:480]


@pytest.fixture
def detector() -> CountingDetector:
    return CountingDetector()


def shifted(image: np.ndarray, x: float, y: float = 0.0) -> np.ndarray:
    matrix = np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def assert_same(found: list[Detection], expected: list[Detection], least: float) -> None:
    """Assert that each expected face is found once, with at least this IoU, and no other face."""
    assert len(found) == len(expected)
    for face in expected:
        assert max(intersection_over_union(face, other) for other in found) > least


def test_of_a_moving_face_most_frames_are_searched_in_one_small_window(detector, still):
    find, every, tracker = FaceFinder(detector), FaceDetector(threads=1), FaceTracker()
    calls = []
    for number in range(2 * FPS):
        frame = shifted(still, 4 * (number % 30), 2 * (number % 30))
        faces = find(frame, number / FPS)
        calls.append(detector.used())
        assert_same(faces, every(frame), 0.75)
        if number < 30:  # then it jumps back
            assert tracker.update(faces, number / FPS) == [1]
    assert sum(WHOLE in pixels for pixels in calls) <= 2 * 5 + 2, "five times a second, and after the jump"
    assert all(pixels in ([WHOLE], [SIDE**2], [SIDE**2, WHOLE]) for pixels in calls)
    assert calls.count([SIDE**2, WHOLE]) <= 1, "two calls are only for a lost face"


@pytest.mark.parametrize("fps", [5, 10, 12, 15, 24, 25, 30, 60])
def test_the_whole_frame_is_searched_by_the_clock_of_the_source(detector, fps):
    find, times = FaceFinder(detector), []
    empty = np.full((480, 640, 3), 120, np.uint8)
    for number in range(2 * fps):
        assert find(empty, 100 + number / fps) == []
        if detector.used():
            times.append(number / fps)
    waits = np.diff(times)
    assert waits.max() < max(LONGEST_WAIT, 1 / fps) + 1e-6
    assert waits.min() > min(0.15, 0.9 / fps) or fps <= 5


def test_a_new_face_is_seen_within_a_quarter_of_a_second(detector, still):
    find, empty = FaceFinder(detector), np.full_like(still, 120)
    small = cv2.resize(still, (160, 120), interpolation=cv2.INTER_AREA)
    one_more = empty.copy()
    one_more[300:420, 400:560] = small
    for entry in range(7):
        find.reset()
        frames = [empty] * (3 + entry) + [one_more] * 10
        found = [len(find(frame, number / FPS)) for number, frame in enumerate(frames)]
        assert found.index(1) - (3 + entry) < 0.25 * FPS


def test_a_lost_face_is_searched_at_once_in_the_whole_frame(detector, still):
    find = FaceFinder(detector)
    find(still, 0.0)
    away = shifted(still, 250)
    detector.used()
    assert_same(find(away, 1 / FPS), FaceDetector(threads=1)(away), 0.99)
    assert detector.used()[-1] == WHOLE
    find(away, 2 / FPS)
    assert detector.used() == [SIDE**2]


def test_another_scene_a_jump_of_the_clock_and_another_size_are_searched_whole(detector, still):
    find = FaceFinder(detector)
    assert len(find(np.zeros_like(still), 0.0)) == 0
    assert len(find(still, 1 / FPS)) == 1, "the scene changed"
    for seconds in (2 / FPS, 1000.0, 3.0, 3.0 + 1 / FPS):
        detector.used()
        assert len(find(still, seconds)) == 1
        assert (detector.used() == [WHOLE]) == (seconds in (1000.0, 3.0))
    assert len(find(still[:400], 3.0 + 2 / FPS)) == 1
    assert detector.used() == [640 * 400]
    find.reset()
    find(still[:400], 3.0 + 3 / FPS)
    assert detector.used() == [640 * 400]


def test_photographs_and_every_frame_on_request_are_searched_whole(detector, still):
    tracked, every = FaceFinder(detector), FaceFinder(detector, "every-frame")
    for number in range(4):
        tracked(still, number / FPS, photograph=True)
        assert detector.used() == [WHOLE]
        assert len(every(still, number / FPS)) == 1
        assert detector.used() == [WHOLE]


def test_all_windows_of_a_frame_are_one_call_unless_the_whole_frame_costs_less(detector):
    for count, cost in ((4, 4 * SIDE**2), (12, 1280 * 720)):
        image, _ = pasted_faces(1280, 720, [70] * count)
        find = FaceFinder(detector)
        assert len(find(image, 0.0)) == count
        detector.used()
        assert len(find(image, 1 / FPS)) == count
        assert detector.used() == [min(cost, 640 * 360)]


def test_faces_that_cross_are_each_found_once(detector, still):
    face = cv2.resize(still, (320, 240), interpolation=cv2.INTER_AREA)[:160, 60:220]
    find, every = FaceFinder(detector), FaceDetector(threads=1)
    for number in range(24):
        frame = np.full((480, 640, 3), 120, np.uint8)
        frame[100:260, 12 * number : 12 * number + 160] = face
        right = 440 - 12 * number
        frame[100:260, right : right + 160] = face[:, ::-1]
        assert_same(find(frame, number / FPS), every(frame), 0.75)


def test_the_faces_are_sorted_and_the_list_is_the_callers(detector):
    image, _ = pasted_faces(640, 480, [60, 90, 70])
    find = FaceFinder(detector)
    for number in range(3):
        faces = find(image, number / FPS)
        assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
        assert len(faces) == 3
        faces.clear()
