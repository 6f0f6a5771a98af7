"""The pipeline with the real detector and a real model file: ids, and smoothing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from doubles.tiny_artifact import EXPRESSIONS, STRATA, tiny_model
from iern.runtime.backends.onnx import open_session
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.face import faces_from
from iern.runtime.faces.pipeline import FacePipeline
from iern.runtime.imaging.preprocess import crop_faces
from repository import PHOTOS


class CountingDetector(FaceDetector):
    """The real detector, which counts its calls."""

    calls = 0

    def __call__(self, frame):
        self.calls += 1
        return super().__call__(frame)


@pytest.fixture(scope="module")
def session():
    with open_session(tiny_model(), provider="cpu", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """320 x 320 pixels with one face."""
    return cv2.resize(cv2.imread(str(PHOTOS / "astronaut.jpg")), (320, 320), interpolation=cv2.INTER_AREA)


def test_without_smoothing_the_faces_are_those_of_detector_and_model(session, picture):
    detector = FaceDetector()
    result = FacePipeline(detector, session, half_life=0, margin=0)(picture, 0.0)
    detections = detector(picture)
    predictions = session(crop_faces(picture, detections, session.artifact.input))
    (expected,), (face,) = faces_from(detections, predictions, session.artifact), result.faces
    assert face.probabilities == face.raw_probabilities == expected.probabilities
    assert (face.expression, face.uncertain) == (expected.expression, expected.uncertain)
    assert (face.track, face.disagreement) == (1, expected.disagreement)
    np.testing.assert_array_equal(face.stratum_probabilities, expected.stratum_probabilities)
    assert face.stratum_probabilities.shape == (len(STRATA), len(EXPRESSIONS))
    assert min(result.detect, result.preprocess, result.infer) > 0


def test_a_face_keeps_its_track_and_its_probabilities_change_slowly(session, picture):
    pipeline = FacePipeline(FaceDetector(), session, half_life=0.2)
    (first,) = pipeline(picture, 0.0).faces
    blue = np.minimum(picture, np.array([255, 40, 40], np.uint8))
    (second,) = pipeline(blue, 0.04).faces
    (last,) = pipeline(blue, 0.9).faces
    assert [face.track for face in (first, second, last)] == [1, 1, 1]

    def distance(a, b):
        return sum(abs(a[name] - b[name]) for name in EXPRESSIONS)

    assert distance(first.probabilities, first.raw_probabilities) < 1e-5
    assert distance(second.probabilities, second.raw_probabilities) > 0.02
    assert distance(last.probabilities, last.raw_probabilities) < distance(
        second.probabilities, second.raw_probabilities
    )


def test_after_a_jump_of_the_clock_a_face_gets_a_new_track(session, picture):
    pipeline = FacePipeline(FaceDetector(), session)
    found = [pipeline(picture, seconds).faces[0].track for seconds in (10.0, 10.04, 3.0, 7203.0)]
    assert found == [1, 1, 2, 3]


def test_a_frame_without_a_face_has_none(session):
    assert FacePipeline(FaceDetector(), session)(np.zeros((64, 64, 3), np.uint8), 0.0).faces == []


def test_after_a_reset_no_face_continues_an_earlier_track(session, picture):
    detector = CountingDetector()
    pipeline = FacePipeline(detector, session)
    assert [pipeline(picture, seconds).faces[0].track for seconds in (0.0, 0.04)] == [1, 1]
    pipeline.reset()
    (face,) = pipeline(picture, 0.08).faces
    assert (face.track, detector.calls) == (2, 2)
    assert face.probabilities == pytest.approx(face.raw_probabilities, abs=1e-5)
