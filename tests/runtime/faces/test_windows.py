"""A window shows the part of the frame that it stands for, and its faces are at their places in the frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.windows import SIDE, Window, cut_window, like_faces, window_around
from iern.runtime.imaging.detection import Detection, intersection_over_union
from iern.runtime.imaging.images import read_image
from repository import PHOTOS


def box(x: float, y: float, side: float) -> Detection:
    return Detection(x, y, side, side, np.full((5, 2), x + side / 2), 0.9)


@pytest.mark.parametrize("side", [40, 80, 160, 320, 648, 1000])
def test_the_copy_is_that_of_an_affine_map_of_the_window(side):
    ramp = np.linspace(0, 255, 1200)
    frame = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 128.0), axis=2).astype(np.uint8)
    copy = cut_window(frame, Window(100, 60, side))
    middle = (np.arange(SIDE) + 0.5) * side / SIDE - 0.5
    np.testing.assert_allclose(copy[:, SIDE // 2, 0], np.interp(60 + middle, np.arange(1200), ramp), atol=1.6)
    np.testing.assert_allclose(copy[SIDE // 2, :, 1], np.interp(100 + middle, np.arange(1200), ramp), atol=1.6)


def test_beyond_the_frame_the_window_is_black():
    frame = np.full((100, 100, 3), 200, np.uint8)
    copy = cut_window(frame, Window(-40, 60, 80))
    assert (copy[: SIDE // 2 - 1, SIDE // 2 + 1 :] == 200).all()
    assert not copy[SIDE // 2 + 1 :].any()
    assert not copy[:, : SIDE // 2 - 1].any()
    assert not cut_window(frame, Window(500, 500, 80)).any()


@pytest.mark.parametrize("size", [24, 60, 150, 300])
def test_a_face_is_at_the_same_place_in_a_window_as_in_the_whole_frame(size):
    detector, photo = FaceDetector(threads=1), read_image(PHOTOS / "astronaut.jpg")
    scale = size / 130
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    frame = np.full((480, 640, 3), 120, np.uint8)
    frame[: len(small[:480]), 20 : 20 + small.shape[1]] = small[:480, :620]
    (whole,) = detector(frame)
    (found,) = detector.in_windows(frame, [window_around(whole)])
    (face,) = like_faces(whole, window_around(whole), found)
    assert intersection_over_union(face, whole) > 0.85
    assert np.abs(face.landmarks - whole.landmarks).max() < 0.08 * size


def test_no_window_is_no_call():
    assert FaceDetector(threads=1).in_windows(np.zeros((48, 64, 3), np.uint8), []) == []


def test_like_faces_are_whole_ones_of_about_the_size_and_the_nearest_comes_first():
    before, window = box(100, 100, 40), Window(80, 80, 80)
    near, far, large, cut_off = box(104, 103, 42), box(90, 90, 40), box(95, 95, 64), box(125, 100, 40)
    assert like_faces(before, window, [far, near]) == [near, far]
    assert like_faces(before, window, [large, cut_off]) == []
    assert like_faces(before, window, []) == []
