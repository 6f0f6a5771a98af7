"""The mirrored view: the picture and the faces are exchanged, and what is drawn on them stays readable."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from iern.runtime.drawing.mirror import mirrored
from iern.runtime.drawing.overlay import draw, status_box
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.face import Face
from iern.runtime.imaging.detection import intersection_over_union
from repository import PHOTOS

STATUS = "24.3 fps   31 ms   1 face   cpu"


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return cv2.resize(cv2.imread(str(PHOTOS / "astronaut.jpg"))[:400, :400], (640, 480))


@pytest.fixture(scope="module")
def face(photo) -> Face:
    (found,) = FaceDetector()(photo)
    return Face(found, {"happy": 0.75, "sad": 0.25}, 0.0, track=3)


def test_the_mirrored_face_is_the_one_that_the_detector_finds_in_the_mirrored_picture(photo, face):
    image, (there,) = mirrored(photo, [face])
    (found,) = FaceDetector()(cv2.flip(photo, 1))
    assert np.array_equal(image, photo[:, ::-1])
    assert intersection_over_union(found, there.detection) > 0.8
    assert there.detection.landmarks == pytest.approx(found.landmarks, abs=0.05 * found.width)
    assert (there.track, there.probabilities) == (face.track, face.probabilities)


def test_twice_mirrored_is_the_original_and_the_original_is_unchanged(photo, face):
    before, landmarks = photo.copy(), face.detection.landmarks.copy()
    image, (twice,) = mirrored(*mirrored(photo, [face]))
    assert np.array_equal(image, before) and np.array_equal(photo, before)
    assert np.array_equal(face.detection.landmarks, landmarks)
    assert twice.detection.landmarks == pytest.approx(landmarks)
    assert (twice.detection.x, twice.detection.width) == pytest.approx((face.detection.x, face.detection.width))


def test_letters_on_the_mirrored_picture_are_not_mirrored(face):
    """Black frames show the overlay alone. The status is at its place, and the label has the same pixels."""
    black = np.zeros((480, 640, 3), np.uint8)
    image, faces = mirrored(black, [face])
    usual, shown = draw(black, [face], STATUS), draw(image, faces, STATUS)
    left, top, right, bottom = status_box(black, STATUS)
    assert np.array_equal(usual[top:bottom, left:right], shown[top:bottom, left:right])
    x, y = (round(value) for value in (face.detection.x, face.detection.y))
    moved = round(faces[0].detection.x) - x
    label = usual[y - 29 : y - 9, x : x + 100]
    assert label.any()
    assert np.array_equal(label, shown[y - 29 : y - 9, x + moved : x + moved + 100])
