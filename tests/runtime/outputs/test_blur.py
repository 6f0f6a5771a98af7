"""Blurred faces: they cannot be recognised or restored, and nothing else changes."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from doubles.made_up_results import grey_result
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.face import Face
from iern.runtime.imaging.detection import Detection
from iern.runtime.outputs.blur import HOLD_SECONDS, PATCHES, FaceBlur, blur_faces, with_faces_blurred
from repository import PHOTOS

PHOTO = PHOTOS / "astronaut.jpg"


def face(x: float, y: float, width: float, height: float) -> Face:
    return Face(Detection(x, y, width, height, np.zeros((5, 2)), 0.9), {"happy": 1.0}, 0.0)


def test_the_detector_finds_no_face_any_more():
    image, detector = cv2.imread(str(PHOTO)), FaceDetector()
    found = detector(image)
    assert len(found) == 1
    assert detector(blur_faces(image, [Face(found[0], {"happy": 1.0}, 0.0)])) == []


def test_faces_that_differ_within_the_patches_look_the_same_afterwards():
    """Three pictures that blur to the same picture: from that, nobody can find out which one it was."""
    rng, side = np.random.default_rng(0), 16 * PATCHES
    tiles = rng.integers(60, 190, (PATCHES, PATCHES, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    signs = np.tile([[1, -1], [-1, 1]], (side // 2, side // 2))[..., None]
    pictures = [(tiles + strength * signs).astype(np.uint8) for strength in (0, 20, 50)]
    whole = [face(0, 0, side, side)]
    first, second, third = (blur_faces(picture, whole) for picture in pictures)
    assert np.array_equal(first, second)
    assert np.array_equal(first, third)


def test_the_rest_of_the_frame_and_the_frame_itself_stay_as_they_are():
    image = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    before = image.copy()
    result = blur_faces(image, [face(100, 80, 40, 50)])
    assert np.array_equal(image, before)
    changed = (result != image).any(axis=2)
    rows, columns = np.where(changed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (62, 147, 82, 157), "the box and a margin"
    assert changed[62:148, 82:158].mean() > 0.95


def test_faces_at_the_edge_outside_or_of_no_size_raise_no_error():
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    odd = [face(-30, -30, 50, 50), face(70, 50, 50, 50), face(500, 500, 9, 9), face(10, 10, 0, 0), face(9, 9, 1, 90)]
    assert blur_faces(image, [*odd, face(float("nan"), 0, 5, 5)]).shape == image.shape
    assert np.array_equal(blur_faces(image, [face(500, 500, 9, 9)]), image)
    assert blur_faces(image[:1, :1], [face(0, 0, 1, 1)]).shape == (1, 1, 3)


def test_a_face_that_the_detector_misses_for_some_frames_stays_hidden():
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    blur = FaceBlur()

    def shown(seconds: float, faces: int) -> np.ndarray:
        result = grey_result(0, seconds, faces)
        return blur(dataclasses.replace(result, frame=dataclasses.replace(result.frame, image=image))).frame.image

    hidden = shown(0.0, 1)
    assert not np.array_equal(hidden, image)
    assert np.array_equal(shown(0.9 * HOLD_SECONDS, 0), hidden)
    assert np.array_equal(shown(1.1 * HOLD_SECONDS, 0), image)


def test_no_output_sees_the_face():
    image, detector = cv2.imread(str(PHOTO)), FaceDetector()
    result = grey_result(0, faces=1)
    faces = [Face(found, {"happy": 1.0}, 0.0) for found in detector(image)]
    got: list[np.ndarray] = []
    outputs = [lambda each: got.append(each.frame.image), lambda each: got.append(each.drawn(strata=True))]
    with_faces_blurred(outputs)(
        dataclasses.replace(result, faces=faces, frame=dataclasses.replace(result.frame, image=image))
    )
    assert [detector(picture) for picture in got] == [[], []]


def test_where_a_face_was_stays_blurred_in_its_own_source_alone():
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    got: list[np.ndarray] = []
    blur = with_faces_blurred([lambda each: got.append(each.frame.image)])
    for source, faces in (("front", 1), ("back", 0), ("front", 0)):
        result = grey_result(0, 0.0, faces)
        blur(dataclasses.replace(result, frame=dataclasses.replace(result.frame, image=image, source=source)))
    hidden, other, still_hidden = got
    assert not np.array_equal(hidden, image) and np.array_equal(still_hidden, hidden)
    assert np.array_equal(other, image)
