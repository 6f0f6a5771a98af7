"""Faces followed by optical flow: compared with known movements of a photograph, and given up when they are lost."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.optical_flow import OpticalFlowFollower
from iern.runtime.imaging.detection import Detection
from repository import PHOTOS

PHOTO = PHOTOS / "astronaut.jpg"


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """480 x 480 pixels with one face."""
    return cv2.resize(cv2.imread(str(PHOTO)), (480, 480), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def face(picture) -> Detection:
    (found,) = FaceDetector()(picture)
    return found


def moved(picture: np.ndarray, degrees: float, scale: float, dx: float, dy: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn, scale and shift the picture -> the new picture and the (2, 3) matrix of the transform."""
    matrix = cv2.getRotationMatrix2D((240, 240), degrees, scale) + np.array([[0, 0, dx], [0, 0, dy]])
    return cv2.warpAffine(picture, matrix, (480, 480), borderMode=cv2.BORDER_REFLECT), matrix


@pytest.mark.parametrize("movement", [(0, 1, 6, -4), (3, 1, 0, 0), (0, 1.05, -3, 2), (-2, 0.96, 4, 4)])
def test_box_and_landmarks_move_as_the_picture_does(picture, face, movement):
    follower = OpticalFlowFollower()
    follower.start(picture, [face])
    frame, matrix = moved(picture, *movement)
    (found,) = follower(frame)
    landmarks = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
    centre = matrix[:, :2] @ [face.x + face.width / 2, face.y + face.height / 2] + matrix[:, 2]
    np.testing.assert_allclose(found.landmarks, landmarks, atol=0.03 * face.width)
    np.testing.assert_allclose([found.x + found.width / 2, found.y + found.height / 2], centre, atol=0.03 * face.width)
    assert found.width / face.width == pytest.approx(movement[1], abs=0.03)
    assert found.height / found.width == pytest.approx(face.height / face.width)
    assert found.score == face.score


def test_large_frames_are_followed_in_their_own_pixels(picture, face):
    follower = OpticalFlowFollower()
    large = cv2.resize(picture, None, fx=4, fy=4)
    whole = Detection(4 * face.x, 4 * face.y, 4 * face.width, 4 * face.height, 4 * face.landmarks, face.score)
    follower.start(large, [whole])
    (found,) = follower(np.roll(large, 20, axis=1))
    assert found.x - whole.x == pytest.approx(20, abs=2)
    assert found.y - whole.y == pytest.approx(0, abs=2)


def test_a_face_that_was_covered_another_scene_and_another_size_are_given_up(picture, face):
    covered = picture.copy()
    x, y, width, height = (round(v) for v in (face.x, face.y, face.width, face.height))
    covered[y : y + height, x : x + width] = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    elsewhere = np.random.default_rng(1).integers(0, 256, picture.shape, dtype=np.uint8)
    for frame in (covered, elsewhere, picture[:400], np.zeros_like(picture)):
        follower = OpticalFlowFollower()
        follower.start(picture, [face])
        assert follower(frame) is None


def test_a_face_that_leaves_the_frame_is_given_up(picture, face):
    follower, lost = OpticalFlowFollower(), False
    follower.start(picture, [face])
    for step in range(1, 60):
        frame, _ = moved(picture, 0, 1, -8 * step, 0)
        found = follower(frame)
        if found is None:
            lost = True
            break
        assert found[0].x + found[0].width / 2 >= 0
    assert lost


def test_without_a_face_there_is_nothing_to_follow(picture):
    follower = OpticalFlowFollower()
    assert follower(picture) is None
    follower.start(picture, [])
    assert follower(picture) is None
