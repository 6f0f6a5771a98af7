"""A session with another prior, compared with p q' / q of its probabilities p without one, in float64."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest
from scipy import special

from doubles.tiny_artifact import EXPRESSIONS, STRATA, tiny_artifact, tiny_model
from iern.runtime.artifact import Artifact
from iern.runtime.backends.onnx import OnnxSession, open_session
from iern.runtime.errors import PriorError
from iern.runtime.intervention import stratum_disagreement
from iern.runtime.recognizer import ExpressionRecognizer
from iern.runtime.webcam import main
from repository import PHOTOS

OWN = (0.7, 0.25, 0.05)
PRIOR = {"sad": 0.5, "happy": 0.3}
RATIO = np.array([0.2, 0.3, 0.5]) / OWN
TEMPERATURE = 1.7


def model(answer: str = "logits", prior: tuple[float, ...] = OWN) -> bytes:
    return tiny_model(described(answer, prior))


def described(answer: str = "logits", prior: tuple[float, ...] = OWN) -> Artifact:
    return dataclasses.replace(tiny_artifact(temperature=TEMPERATURE), answer=answer, prior=prior)


def faces(count: int) -> np.ndarray:
    """(count, 32, 32, 3) uint8, each of its own colour."""
    return np.broadcast_to(
        np.random.default_rng(0).integers(0, 256, (count, 1, 1, 3), np.uint8), (count, 32, 32, 3)
    ).copy()


def reweighted(probabilities: np.ndarray) -> np.ndarray:
    """(..., E) p -> p q' / q, normalised, in float64."""
    products = probabilities.astype(np.float64) * RATIO
    return products / products.sum(axis=-1, keepdims=True)


def test_probabilities_and_those_of_each_stratum_are_multiplied_by_the_ratio_of_the_rates():
    with OnnxSession(model(), "cpu") as plain, open_session(model(), "cpu", max_batch=2, prior=PRIOR) as session:
        before, after = plain(faces(5)), session(faces(5))
        assert session.artifact == dataclasses.replace(plain.artifact, prior=session.artifact.prior)
        assert session.artifact.prior == pytest.approx((0.2, 0.3, 0.5))
    assert (before.probabilities.argmax(1) != after.probabilities.argmax(1)).any()
    np.testing.assert_allclose(after.probabilities, reweighted(before.probabilities), rtol=1e-4)
    strata_before, strata_after = (
        special.softmax(each.stratum_logits.astype(np.float64) / TEMPERATURE, axis=-1) for each in (before, after)
    )
    np.testing.assert_allclose(strata_after, reweighted(strata_before), rtol=1e-4)
    np.testing.assert_allclose(special.softmax(after.logits / TEMPERATURE, axis=-1), after.probabilities, rtol=1e-4)
    assert {array.dtype for array in vars(after).values()} == {np.dtype(np.float32)}


def test_if_probabilities_are_averaged_the_ratio_applies_under_each_stratum():
    content = model("probabilities")
    with OnnxSession(content, "cpu") as plain, open_session(content, "cpu", prior=PRIOR) as session:
        strata = special.softmax(plain(faces(5)).stratum_logits.astype(np.float64) / TEMPERATURE, axis=-1)
        np.testing.assert_allclose(session(faces(5)).probabilities, reweighted(strata).mean(axis=1), rtol=1e-4)


def test_a_prior_and_then_the_models_own_give_the_first_answers_again():
    with OnnxSession(model(), "cpu") as plain, open_session(model(), "cpu", prior={}) as session:
        np.testing.assert_allclose(session(faces(3)).probabilities, plain(faces(3)).probabilities, rtol=1e-4)
        assert session(faces(0)).stratum_logits.shape == (0, len(STRATA), len(EXPRESSIONS))


def test_the_session_below_is_closed_with_it_or_if_the_prior_is_refused(monkeypatch):
    opened: list[OnnxSession] = []
    first = OnnxSession.__init__

    def noted(session: OnnxSession, *arguments: object) -> None:
        first(session, *arguments)
        opened.append(session)

    monkeypatch.setattr(OnnxSession, "__init__", noted)
    with open_session(model(), "cpu", prior="uniform"):
        assert not opened[0].closed
    with pytest.raises(PriorError, match="the model in memory: the prior names joy"):
        open_session(model(), "cpu", prior={"joy": 0.5})
    assert [session.closed for session in opened] == [True, True]


def test_the_library_takes_a_prior_for_pictures_and_for_smoothed_tracks():
    picture = cv2.resize(cv2.imread(str(PHOTOS / "astronaut.jpg")), (320, 320), interpolation=cv2.INTER_AREA)
    own = ExpressionRecognizer(model(), provider="cpu")
    other = ExpressionRecognizer(model(), provider="cpu", prior=PRIOR)
    with own, other:
        ((before,), (after,)) = own(picture), other(picture)
        expected = reweighted(np.array(list(before.probabilities.values())))
        np.testing.assert_allclose(list(after.probabilities.values()), expected, rtol=1e-4)
        np.testing.assert_allclose(after.stratum_probabilities, reweighted(before.stratum_probabilities), rtol=1e-4)
        pipeline = other.pipeline(half_life=0.5)
        for seconds in (0.0, 0.1):
            (face,) = pipeline(picture, seconds, photograph=True).faces
        np.testing.assert_allclose(list(face.probabilities.values()), expected, rtol=1e-3)
        np.testing.assert_allclose(list(face.raw_probabilities.values()), expected, rtol=1e-3)
        _, arguments = other.__reduce__()
        assert arguments[1]["prior"] == PRIOR


def test_the_disagreement_is_that_of_the_shifted_strata():
    with OnnxSession(model(), "cpu") as plain, open_session(model(), "cpu", prior=PRIOR) as session:
        before, after = plain(faces(4)), session(faces(4))
    by_stratum = reweighted(special.softmax(before.stratum_logits.astype(np.float64) / TEMPERATURE, axis=-1))
    expected = np.abs(by_stratum - by_stratum.mean(axis=1, keepdims=True)).sum(-1).mean(1) / 2
    np.testing.assert_allclose(stratum_disagreement(after.stratum_logits, TEMPERATURE), expected, rtol=1e-4)


def test_the_loop_takes_a_prior(tmp_path, capsys):
    def probabilities(*more: str) -> np.ndarray:
        arguments = ["--headless", "--source", str(PHOTOS / "astronaut.jpg"), "--model", str(path)]
        assert main([*arguments, "--jsonl", str(tmp_path / "out.jsonl"), *more]) == 0
        (face,) = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["faces"]
        return np.array([face["probabilities"][expression] for expression in EXPRESSIONS])

    path = tmp_path / "tiny.onnx"
    path.write_bytes(model())
    np.testing.assert_allclose(probabilities("--prior", "sad=0.5,happy=0.3"), reweighted(probabilities()), atol=1e-3)
    path.write_bytes(model(prior=()))
    assert probabilities().sum() == pytest.approx(1, abs=1e-3)
    capsys.readouterr()
    assert main(["--headless", "--source", str(PHOTOS / "astronaut.jpg"), "--model", str(path), "--prior", "uniform"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: does not record how frequent")
