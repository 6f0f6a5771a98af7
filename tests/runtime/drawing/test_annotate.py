"""The annotated picture of the library is what the loop draws, on a copy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from doubles.made_up_results import grey_result
from iern.runtime.drawing.annotate import annotate
from iern.runtime.errors import ArgumentError, ImageError
from iern.runtime.faces.face import Face
from iern.runtime.faces.prediction import Prediction
from iern.runtime.imaging.detection import Detection

FACE = Face(
    Detection(40, 30, 50, 60, np.zeros((5, 2)), 0.9),
    {"happy": 0.75, "sad": 0.25},
    0.1,
    stratum_probabilities=np.array([[0.9, 0.1], [0.6, 0.4]]),
)


def waves() -> np.ndarray:
    y, x = np.mgrid[:160, :240]
    return np.dstack([x % 256, y, (x + y) % 256]).astype(np.uint8)


def test_it_is_the_picture_of_the_loop_without_a_status():
    result = grey_result(90, faces=2)
    image = result.frame.image
    before = image.copy()
    np.testing.assert_array_equal(annotate(image, result.faces), result.annotated)
    np.testing.assert_array_equal(image, before)


def test_the_picture_may_be_passed_in_every_form(tmp_path):
    image = waves()
    cv2.imwrite(str(tmp_path / "it.png"), image)
    drawn = annotate(image, [FACE])
    assert (drawn != image).any()
    for form in (tmp_path / "it.png", str(tmp_path / "it.png"), Image.open(tmp_path / "it.png")):
        np.testing.assert_array_equal(annotate(form, [FACE]), drawn)
    with pytest.raises(ImageError):
        annotate(tmp_path, [FACE])


def test_without_faces_it_is_a_copy():
    image = waves()
    copy = annotate(image, [])
    np.testing.assert_array_equal(copy, image)
    assert not np.shares_memory(copy, image)


def test_the_strata_are_drawn_when_asked_for():
    assert (annotate(waves(), [FACE], strata=True) != annotate(waves(), [FACE])).any()


@pytest.mark.parametrize("wrong", [FACE, [[FACE]], [Prediction({"happy": 1.0}, None)], None], ids=type)
def test_what_is_no_list_of_faces_is_refused(wrong):
    with pytest.raises(ArgumentError, match="expected a list, as recognizer"):
        annotate(waves(), wrong)
