"""Faces: their expressions, their disagreement, and their JSON record."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from iern.runtime.artifact import Artifact
from iern.runtime.faces.face import Face, faces_from
from iern.runtime.faces.prediction import Prediction, predictions_by_name
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.preprocess import InputSpec
from iern.runtime.intervention import stratum_disagreement
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.records import json_record
from iern.runtime.session import Predictions
from iern.runtime.sources.base import Frame
from iern.runtime.system.latency import Latency

CERTAIN = 1000.0


def detection(x: float = 10.0, y: float = 20.0) -> Detection:
    return Detection(x, y, 30.0, 40.0, np.zeros((5, 2)), 0.9)


def model(*expressions: str, temperature: float = 1.0, threshold: float = 0.0) -> Artifact:
    return Artifact(expressions, ("studio", "street"), InputSpec(32), temperature=temperature, threshold=threshold)


def test_each_face_gets_its_own_row_of_the_predictions():
    probabilities = np.array([[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]], np.float32)
    strata = np.array([[[0, 0, 0], [0, 0, 0]], [[CERTAIN, 0, 0], [0, CERTAIN, 0]]], np.float32)
    detections = [detection(1), detection(2)]
    first, second = faces_from(
        detections, Predictions(probabilities, np.log(probabilities), strata), model("sad", "happy", "fear")
    )
    assert (first.detection, first.expression, first.disagreement) == (detections[0], "happy", 0.0)
    assert (second.detection, second.expression) == (detections[1], "sad")
    assert second.disagreement == pytest.approx(0.5)
    assert list(first.probabilities) == ["sad", "happy", "fear"]
    assert first.probability == pytest.approx(0.7)


def test_predictions_with_another_number_of_rows_than_faces_are_an_error():
    predictions = Predictions(
        np.ones((1, 2), np.float32) / 2, np.zeros((1, 2), np.float32), np.zeros((1, 1, 2), np.float32)
    )
    with pytest.raises(ValueError, match="zip"):
        faces_from([detection(), detection()], predictions, model("a", "b"))


@pytest.mark.parametrize(
    ("threshold", "uncertain"), [(0.0, [False, False]), (0.65, [False, True]), (1.0, [True, True])]
)
def test_a_face_whose_largest_probability_is_below_the_threshold_is_uncertain_and_keeps_its_expression(
    threshold, uncertain
):
    probabilities = np.array([[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]], np.float32)
    predictions = Predictions(probabilities, np.log(probabilities), np.zeros((2, 2, 3), np.float32))
    faces = faces_from([detection(1), detection(2)], predictions, model("sad", "happy", "fear", threshold=threshold))
    assert [face.uncertain for face in faces] == uncertain
    assert [face.expression for face in faces] == ["happy", "sad"]


def test_the_disagreement_is_of_the_strata_after_the_models_temperature():
    strata = np.array([[[2, 0, 1], [-1, 3, 0]]], np.float32)
    predictions = Predictions(np.full((1, 3), 1 / 3, np.float32), strata.mean(axis=1), strata)
    (face,) = faces_from([detection()], predictions, model("sad", "happy", "fear", temperature=2.5))
    assert face.disagreement == pytest.approx(stratum_disagreement(strata, 2.5)[0])
    assert face.disagreement != pytest.approx(stratum_disagreement(strata, 1.0)[0], abs=0.01)


def test_the_record_is_plain_json_with_boxes_probabilities_and_times():
    probabilities = np.array([[0.25, 0.75]], np.float32)
    predictions = Predictions(probabilities, np.log(probabilities), np.zeros((1, 2, 2), np.float32))
    faces = faces_from([detection()], predictions, model("trist", "fröhlich", threshold=0.8))
    frame = Frame(np.zeros((60, 40, 3), np.uint8), 1.25, 7, "clip.mp4", 0.0)
    found = json.loads(
        json.dumps(json_record(FrameResult(frame, faces, Latency(1.5, 0.25, 2.0, 5.0), "")), allow_nan=False)
    )
    assert found == {
        "schema": 4,
        "frame": 7,
        "time": 1.25,
        "name": "clip.mp4",
        "segment": 0,
        "faces": [
            {
                "track": None,
                "box": [10.0, 20.0, 30.0, 40.0],
                "score": 0.9,
                "expression": "fröhlich",
                "probability": 0.75,
                "uncertain": True,
                "probabilities": {"trist": 0.25, "fröhlich": 0.75},
                "raw_probabilities": {"trist": 0.25, "fröhlich": 0.75},
                "disagreement": 0.0,
            }
        ],
        "latency_ms": {"detect": 1.5, "preprocess": 0.25, "infer": 2.0, "total": 3.75, "age": 5.0},
    }


def test_the_record_of_a_tracked_face_has_its_track_its_stable_expression_and_the_raw_probabilities():
    face = Face(detection(), {"sad": 0.45, "happy": 0.55}, 0.1, False, 3, "sad", {"sad": 0.2, "happy": 0.8})
    assert (face.expression, face.probability) == ("sad", 0.45)
    frame = Frame(np.zeros((8, 8, 3), np.uint8), 1.25, 7, "clip.mp4", 0.0)
    (found,) = json_record(FrameResult(frame, [face], Latency(1, 1, 1, 1), ""))["faces"]
    assert (found["track"], found["expression"], found["probability"]) == (3, "sad", 0.45)
    assert found["raw_probabilities"] == {"sad": 0.2, "happy": 0.8}


BEYOND = Detection(-3.04, 50.0, 30.0, 20.06, np.zeros((5, 2)), 0.9)


@pytest.mark.parametrize("found", [detection(), BEYOND], ids=["inside", "beyond the edges"])
@pytest.mark.parametrize("tracked", [False, True])
def test_a_face_as_a_dictionary_is_its_part_of_the_frames_record(found, tracked):
    more = {"track": 3, "stable_expression": "sad", "raw_probabilities": {"sad": 0.2, "happy": 0.8}} if tracked else {}
    face = Face(found, {"sad": 0.45, "happy": 0.55}, 0.1, frame_size=(40, 60), **more)
    frame = Frame(np.zeros((60, 40, 3), np.uint8), 0.0, 0, "photo.jpg", 0.0)
    record = json_record(FrameResult(frame, [face], Latency(1, 1, 1, 1), ""))["faces"][0]
    assert face.to_dict() == record
    assert list(face.to_dict()) == list(record)
    assert list(face.box) == record["box"]
    assert json.loads(face.to_json()) == record
    assert "\n" not in face.to_json()


def test_the_box_is_clipped_to_the_picture_if_its_size_is_known():
    face = Face(BEYOND, {"sad": 1.0}, None)
    assert face.box == (-3.0, 50.0, 30.0, 20.1)
    assert "whole_box" not in face.to_dict()
    assert dataclasses.replace(face, frame_size=(40, 60)).box == (0.0, 50.0, 27.0, 10.0)
    assert dataclasses.replace(face, frame_size=(40, 60)).to_dict()["whole_box"] == [-3.0, 50.0, 30.0, 20.1]


def test_a_face_shows_itself_in_one_short_line_without_arrays():
    strata = np.full((2, 2), 0.5)
    face = Face(detection(), {"sad": 0.456, "happy": 0.544}, 0.1, True, 3, stratum_probabilities=strata)
    assert repr(face) == ("Face(expression='happy', probability=0.54, uncertain=True, box=(10, 20, 30, 40), track=3)")
    prediction = Prediction({"sad": 0.456, "happy": 0.544}, 0.1, False, strata)
    assert repr(prediction) == "Prediction(expression='happy', probability=0.54, uncertain=False)"


def test_a_prediction_has_the_words_of_a_face_without_its_place():
    strata = np.array([[[2, 0, 1], [-1, 3, 0]]], np.float32)
    predictions = Predictions(np.array([[0.2, 0.5, 0.3]], np.float32), strata.mean(axis=1), strata)
    artifact = model("sad", "fröhlich", "fear", temperature=2.0, threshold=0.6)
    (face,), (prediction,) = (
        faces_from([detection()], predictions, artifact),
        predictions_by_name(predictions, artifact),
    )
    assert (prediction.expression, prediction.probability, prediction.uncertain) == ("fröhlich", 0.5, True)
    np.testing.assert_array_equal(prediction.stratum_probabilities, face.stratum_probabilities)
    record = face.to_dict()
    assert prediction.to_dict() == {
        name: record[name] for name in ("expression", "probability", "uncertain", "probabilities", "disagreement")
    }
    assert '"fröhlich"' in prediction.to_json()


def test_with_one_stratum_there_is_no_disagreement_and_nothing_to_compare():
    """Not 0, which would say that the recording conditions make no difference."""
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    predictions = Predictions(probabilities, np.log(probabilities), np.log(probabilities)[:, None])
    artifact = Artifact(("sad", "happy"), ("mean",), InputSpec(32), collapsed_from=3)
    faces = faces_from([detection(1), detection(2)], predictions, artifact)
    assert [face.disagreement for face in faces] == [None, None]
    assert [face.stratum_probabilities for face in faces] == [None, None]
    assert [face.expression for face in faces] == ["happy", "sad"]


def test_each_face_has_its_probabilities_under_the_strata():
    strata = np.array([[[2, 0, 1], [-1, 3, 0]], [[0, 0, 0], [5, 0, 0]]], np.float32)
    predictions = Predictions(np.full((2, 3), 1 / 3, np.float32), strata.mean(axis=1), strata)
    faces = faces_from([detection(), detection()], predictions, model("sad", "happy", "fear", temperature=2.0))
    for face, logits in zip(faces, strata, strict=True):
        powers = np.exp(logits.astype(np.float64) / 2)
        np.testing.assert_allclose(face.stratum_probabilities, powers / powers.sum(-1, keepdims=True), rtol=1e-5)
    assert faces[0] == faces[0] and faces[0] != faces[1], "the array is left out of the comparison"
