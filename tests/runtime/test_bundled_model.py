"""The bundled classifier on photographs with a clear expression."""

import json

import numpy as np
import pytest

from iern.runtime.backends.onnx import open_session
from iern.runtime.bundled import DEMO_CLIP, MODEL
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.images import read_image
from iern.runtime.imaging.preprocess import crop_faces
from iern.runtime.system.files import sha256
from iern.runtime.system.processor import processor
from iern.runtime.webcam import main
from repository import ROOT

PHOTOGRAPHS = ROOT / "tests" / "data" / "photos"
SEVEN = {"anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"}


@pytest.fixture(scope="module")
def session():
    with open_session(MODEL, provider="cpu") as opened:
        yield opened


def predictions_for(session, image) -> list[dict[str, float]]:
    """Return expression -> probability for every face, from left to right."""
    faces = sorted(FaceDetector()(image), key=lambda face: face.x)
    probabilities = session(crop_faces(image, faces, session.artifact.input)).probabilities
    return [dict(zip(session.artifact.expressions, row.tolist(), strict=True)) for row in probabilities]


@pytest.mark.parametrize("name", ["astronaut", "obama_portrait", "obama_and_biden"])
def test_a_broad_smile_is_happiness(session, name):
    leftmost = predictions_for(session, read_image(PHOTOGRAPHS / f"{name}.jpg"))[0]
    assert leftmost["happiness"] > 0.7


def test_a_stern_face_is_no_smile(session):
    (face,) = predictions_for(session, read_image(PHOTOGRAPHS / "biden_portrait.jpg"))
    assert face["happiness"] < 0.3


@pytest.mark.parametrize("change", ["mirrored", "grey", "dim"])
def test_a_smile_stays_happiness_mirrored_grey_and_dim(session, change):
    image = read_image(PHOTOGRAPHS / "astronaut.jpg")
    changed = {
        "mirrored": image[:, ::-1],
        "grey": np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8),
        "dim": (image * 0.4).astype(np.uint8),
    }[change]
    (face,) = predictions_for(session, np.ascontiguousarray(changed))
    assert face["happiness"] > 0.7


def test_the_demo_shows_smiles_where_people_smile_and_none_in_the_stern_portrait(tmp_path):
    records = tmp_path / "demo.jsonl"
    assert main(["--headless", "--source", str(DEMO_CLIP), "--jsonl", str(records)]) == 0
    frames = [json.loads(line)["faces"] for line in records.read_text(encoding="utf-8").splitlines()]
    leftmost = [min(faces, key=lambda face: face["box"][0]) for faces in frames]
    for scene, smiling in (
        (slice(0, 35), True),
        (slice(50, 60), False),
        (slice(75, 95), True),
        (slice(110, 156), True),
    ):
        found = {(face["expression"], face["uncertain"]) for face in leftmost[scene]}
        assert (found == {("happiness", False)}) if smiling else ("happiness", False) not in found, scene


def test_its_metadata_describe_it(session):
    artifact = session.artifact
    assert set(artifact.expressions) == SEVEN
    assert artifact.method == "iern" and artifact.preset == "edge"
    assert len(artifact.strata) > 1
    assert artifact.data and artifact.licence
    assert artifact.metrics["valid"]["n"] > 1000
    assert artifact.parity["forms"]["onnxruntime"]["argmax_changes"] == 0
    assert MODEL.stat().st_size < 12e6


def test_the_8_bit_file_was_made_from_this_file_and_predicts_nearly_the_same(session):
    small_file = MODEL.with_suffix(".int8.onnx")
    assert small_file.stat().st_size < 6e6
    with open_session(small_file, provider="cpu") as small:
        assert small.artifact.float_sha256 == sha256(MODEL)
        assert small.artifact.checkpoint_sha256 == session.artifact.checkpoint_sha256
        assert small.artifact.parity["faces"] >= 1000
        assert small.artifact.parity["change"] >= -0.005
        assert small.artifact.parity["agreement"] >= 0.97
        if processor().saturates:
            pytest.skip("8 bits are not used on this CPU")
        differences = []
        for name in ("astronaut", "obama_portrait", "biden_portrait", "obama_and_biden"):
            image = read_image(PHOTOGRAPHS / f"{name}.jpg")
            for found, expected in zip(predictions_for(small, image), predictions_for(session, image), strict=True):
                differences += [abs(found[each] - expected[each]) for each in expected]
                assert max(found.values()) < 0.7 or max(found, key=found.get) == max(expected, key=expected.get)
        assert np.mean(differences) < 0.03


def test_the_half_precision_file_is_the_same_model_and_predicts_the_same(session):
    image = read_image(PHOTOGRAPHS / "obama_and_biden.jpg")
    half_file = MODEL.with_suffix(".fp16.onnx")
    with open_session(half_file, provider="cpu") as half:
        assert half.artifact.checkpoint_sha256 == session.artifact.checkpoint_sha256
        assert half.artifact.parity["faces"] >= 1000
        assert half.artifact.parity["agreement"] >= 0.995
        for found, expected in zip(predictions_for(half, image), predictions_for(session, image), strict=True):
            assert found == pytest.approx(expected, abs=0.01)
    assert half_file.stat().st_size < 6e6
