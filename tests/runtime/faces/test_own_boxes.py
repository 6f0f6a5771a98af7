"""Boxes and landmarks of the caller become detections, and what does not fit the image is refused."""

from __future__ import annotations

import numpy as np
import pytest

from iern.runtime.errors import ArgumentError, IernError
from iern.runtime.faces.own_boxes import detections_of

IMAGE = np.zeros((60, 80, 3), np.uint8)
BOX = (10, 20, 30, 30)
POINTS = np.array([[18.0, 30.0], [32.0, 30.0], [25.0, 36.0], [20.0, 44.0], [30.0, 44.0]])


@pytest.mark.parametrize("boxes", [[BOX, (0, 0, 5.5, 6)], np.array([BOX, (0, 0, 5.5, 6)], np.float32)], ids=type)
def test_boxes_become_detections_in_their_order(boxes):
    found = detections_of(boxes, None, IMAGE)
    assert [(face.x, face.y, face.width, face.height) for face in found] == [BOX, (0, 0, 5.5, 6)]
    assert [(face.landmarks, face.score) for face in found] == [(None, 1.0)] * 2


def test_landmarks_stay_with_their_box():
    first, second = detections_of([BOX, (20, 20, 30, 30)], [POINTS, POINTS + 7], IMAGE)
    np.testing.assert_array_equal(first.landmarks, POINTS)
    np.testing.assert_array_equal(second.landmarks, POINTS + 7)


@pytest.mark.parametrize("none", [[], (), np.empty((0, 4))], ids=repr)
def test_no_boxes_are_no_faces(none):
    assert detections_of(none, None, IMAGE) == []
    assert detections_of(none, [], IMAGE) == []


@pytest.mark.parametrize("box", [(-5, -5, 10, 10), (75, 55, 400, 400), (-100, -100, 300, 300)], ids=str)
def test_a_box_may_reach_beyond_the_image(box):
    assert len(detections_of([box], None, IMAGE)) == 1


OUTSIDE = r"boxes\[1\]: found .* outside the image of 80x60"
REFUSED = {
    "left": ([BOX, (-30, 0, 30, 30)], None, OUTSIDE),
    "right": ([BOX, (80, 0, 30, 30)], None, OUTSIDE),
    "above": ([BOX, (0, -9, 9, 9)], None, OUTSIDE),
    "below": ([BOX, (0, 60, 30, 30)], None, OUTSIDE),
    "negative": ([(40, 50, -30, 30)], None, r"boxes\[0\]: found \(40, 50, -30, 30\).*right - left"),
    "empty": ([(1, 2, 30, 0)], None, r"smaller than a pixel"),
    "shares": ([(0.1, 0.2, 0.3, 0.4)], None, r"smaller than a pixel.*Multiply shares"),
    "nan": ([BOX, (1, 2, np.nan, 4)], None, r"boxes\[1\]: found .*nan.*finite"),
    "infinite": ([(1, 2, 3, np.inf)], None, r"boxes\[0\]: found .*inf.*finite"),
    "one": (BOX, None, r"those of one face, shape \(4,\); pass them in a list"),
    "three numbers": ([(1, 2, 3)], None, r"boxes: found shape \(1, 3\); expected \(number of faces, 4\)"),
    "ragged": ([BOX, (1, 2)], None, r"boxes: found list that is no array"),
    "text": ("face", None, r"boxes: found str that is no array"),
    "object": ([object()], None, r"boxes: found list that is no array"),
    "four dimensions": (np.ones((1, 1, 4)), None, r"found shape \(1, 1, 4\)"),
    "landmarks of one": ([BOX], POINTS, r"landmarks: found those of one face"),
    "four landmarks": ([BOX], [POINTS[:4]], r"landmarks: found shape \(1, 4, 2\); expected \(number of faces, 5, 2\)"),
    "flat landmarks": ([BOX], [POINTS.ravel()], r"landmarks: found shape \(1, 10\)"),
    "landmarks of another number": ([BOX, BOX], [POINTS], "found 2 boxes and the landmarks of 1 faces"),
    "nan landmarks": ([BOX], [POINTS * np.nan], r"landmarks\[0\].*finite"),
    "landmarks in the box's pixels": ([BOX], [POINTS - BOX[:2]], r"landmarks\[0\].*not of the box"),
    "landmarks of another face": ([BOX], [POINTS + 40], r"landmarks\[0\].*outside their box \(10, 20, 30, 30\)"),
}


@pytest.mark.parametrize(("boxes", "landmarks", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_with_its_index_and_what_to_do(boxes, landmarks, message):
    with pytest.raises(ArgumentError, match=message) as refused:
        detections_of(boxes, landmarks, IMAGE)
    assert isinstance(refused.value, IernError) and isinstance(refused.value, ValueError)
