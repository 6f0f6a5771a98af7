"""Predictions over time: the half-life compared with its closed form, labels that are kept, and new histories."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from iern.runtime.app.command_line import parse
from iern.runtime.artifact import Artifact
from iern.runtime.faces.smoothing import HALF_LIFE, FaceLabel, PredictionSmoother, smooth, update_label
from iern.runtime.faces.tracker import MAX_GAP
from iern.runtime.imaging.preprocess import InputSpec
from iern.runtime.session import Predictions

EXPRESSIONS = ("sad", "happy", "fear")


def model(threshold: float = 0.0, answer: str = "logits", temperature: float = 1.0) -> Artifact:
    return Artifact(
        EXPRESSIONS, ("studio", "street"), InputSpec(32), answer=answer, threshold=threshold, temperature=temperature
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


def predictions_of(strata: np.ndarray, artifact: Artifact) -> Predictions:
    """(B, 2, 3) logits -> the predictions that a session returns for them."""
    strata = np.asarray(strata, np.float32)
    logits = strata.mean(axis=1)
    probabilities = softmax(logits / artifact.temperature)
    if artifact.answer == "probabilities":
        probabilities = softmax(strata / artifact.temperature).mean(axis=1)
    return Predictions(probabilities.astype(np.float32), logits, strata)


def certain(*probabilities: float) -> np.ndarray:
    """(1, 2, 3) logits under which both strata give these probabilities."""
    return np.log(np.array([[probabilities, probabilities]]))


def test_the_half_life_is_exact_in_float64_whatever_the_times_of_the_frames():
    rng = np.random.default_rng(0)
    before, now = rng.normal(0, 5, (2, 3, 7))
    for half_life in (0.05, 0.3, 2.0):
        times = np.cumsum(rng.exponential(0.07, 60))
        value, last = before, 0.0
        for seconds in times:
            value, last = smooth(value, now, seconds - last, half_life), seconds
            expected = now + (before - now) * math.exp(-math.log(2) * seconds / half_life)
            np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fps", [5, 12.5, 60])
def test_a_change_is_half_done_after_one_half_life_at_any_frame_rate(fps):
    artifact = model()
    smoother = PredictionSmoother(artifact, half_life=0.4)
    before, now = np.array([[[4.0, 0, 0], [2.0, 0, 0]]]), np.array([[[0, 4.0, 0], [0, 2.0, 0]]])
    smoother([7], predictions_of(before, artifact), 0.0)
    for frame in range(1, round(0.4 * fps) + 1):
        found, _ = smoother([7], predictions_of(now, artifact), frame / fps)
    np.testing.assert_allclose(found.stratum_logits, (before + now) / 2, rtol=1e-6)
    np.testing.assert_allclose(found.logits[0], [1.5, 1.5, 0], rtol=1e-6)


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_the_smoothed_probabilities_are_those_of_the_smoothed_strata(kind):
    artifact = model(answer=kind, temperature=0.7)
    smoother, rng = PredictionSmoother(artifact, half_life=0.2), np.random.default_rng(1)
    for frame in range(5):
        found, _ = smoother([1, 2], predictions_of(rng.normal(0, 2, (2, 2, 3)), artifact), 0.05 * frame)
    expected = predictions_of(found.stratum_logits, artifact)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-5)
    assert found.probabilities.dtype == np.float32


def test_the_first_predictions_of_a_face_are_not_smoothed():
    artifact = model()
    smoother = PredictionSmoother(artifact)
    smoother([1], predictions_of(certain(0.9, 0.05, 0.05), artifact), 0.0)
    found, labels = smoother([1, 2], predictions_of(np.tile(certain(0.1, 0.8, 0.1), (2, 1, 1)), artifact), 0.04)
    assert found.probabilities[0, 0] > 0.5
    np.testing.assert_allclose(found.probabilities[1], [0.1, 0.8, 0.1], rtol=1e-5)
    assert [label.expression for label in labels] == [0, 1]


def test_without_half_life_and_margin_each_frame_is_labelled_by_itself():
    artifact = model(threshold=0.55)
    smoother, rng = PredictionSmoother(artifact, half_life=0, margin=0), np.random.default_rng(2)
    for frame in range(200):
        given = predictions_of(rng.normal(0, 1, (1, 2, 3)), artifact)
        found, (label,) = smoother([1], given, frame / 25)
        assert found is given
        best = given.probabilities[0].max()
        assert label == FaceLabel(int(given.probabilities[0].argmax()), uncertain=bool(best < 0.55))


@pytest.mark.parametrize("seconds", [0.5, 1.0 + MAX_GAP, 1e6])
def test_the_history_from_before_a_jump_of_the_clock_does_not_count(seconds):
    artifact = model()
    smoother = PredictionSmoother(artifact, half_life=5)
    smoother([1], predictions_of(certain(0.9, 0.05, 0.05), artifact), 1.0)
    found, (label,) = smoother([1], predictions_of(certain(0.1, 0.8, 0.1), artifact), seconds)
    np.testing.assert_allclose(found.probabilities[0], [0.1, 0.8, 0.1], rtol=1e-5)
    assert EXPRESSIONS[label.expression] == "happy"


def test_a_prediction_that_is_not_a_number_is_forgotten_with_the_next_frame():
    artifact = model()
    smoother = PredictionSmoother(artifact)
    smoother([1], predictions_of(certain(0.9, 0.05, 0.05), artifact), 0.0)
    smoother([1], predictions_of(np.full((1, 2, 3), np.nan), artifact), 0.04)
    found, _ = smoother([1], predictions_of(certain(0.1, 0.8, 0.1), artifact), 0.08)
    np.testing.assert_allclose(found.probabilities[0], [0.1, 0.8, 0.1], rtol=1e-5)


def test_a_label_is_kept_until_another_expression_leads_by_the_margin():
    label = FaceLabel(0, uncertain=False)
    for probabilities, expected in [((0.45, 0.5, 0.05), 0), ((0.42, 0.53, 0.05), 1), ((0.5, 0.45, 0.05), 1)]:
        label = update_label(np.array(probabilities), label, threshold=0.0, margin=0.1)
        assert label.expression == expected


def test_a_label_becomes_certain_at_the_threshold_and_uncertain_a_margin_below_it():
    label, uncertain = None, []
    for probability in (0.55, 0.61, 0.55, 0.51, 0.49, 0.55, 0.6):
        label = update_label(np.array([probability, 1 - probability - 0.01, 0.01]), label, threshold=0.6, margin=0.1)
        uncertain.append(label.uncertain)
    assert uncertain == [True, False, False, False, True, True, False]


def test_the_label_of_an_uncertain_face_is_not_kept():
    before = FaceLabel(0, uncertain=True)
    assert update_label(np.array([0.48, 0.5, 0.02]), before, threshold=0.6, margin=0.1) == FaceLabel(1, uncertain=True)


def test_another_expression_below_the_threshold_makes_the_face_uncertain():
    before = FaceLabel(0, uncertain=False)
    assert update_label(np.array([0.35, 0.55, 0.1]), before, threshold=0.6, margin=0.1) == FaceLabel(1, uncertain=True)


def test_the_label_of_a_noisy_face_between_two_expressions_changes_less_often():
    artifact, rng = model(threshold=0.4), np.random.default_rng(3)
    logits = np.array([1.0, 1.0, -1.0]) + rng.normal(0, 0.5, (250, 1, 2, 3))

    def changes(half_life: float, margin: float) -> int:
        smoother = PredictionSmoother(artifact, half_life, margin)
        labels = [smoother([1], predictions_of(row, artifact), i / 25)[1][0] for i, row in enumerate(logits)]
        return sum(a != b for a, b in itertools.pairwise(labels))

    assert changes(0, 0) > 50
    assert changes(0.2, 0) < changes(0, 0) / 2
    assert changes(0.2, 0.1) < changes(0.2, 0) / 2


def test_faces_that_are_gone_are_forgotten():
    artifact = model()
    smoother, predictions = PredictionSmoother(artifact), predictions_of(certain(0.9, 0.05, 0.05), artifact)
    for id in range(500):
        smoother([id], predictions, id / 25)
    assert len(smoother._states) <= 26


def test_the_command_has_options_for_the_half_life_and_for_detection_in_every_nth_frame():
    assert (parse([]).half_life, parse([]).search) == (HALF_LIFE, "tracked")
    options = parse(["--half-life", "0", "--search", "every-frame"])
    assert (options.half_life, options.search) == (0, "every-frame")


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon"])
def test_the_command_refuses_a_half_life_that_is_not_a_number_from_0(text, capsys):
    with pytest.raises(SystemExit):
        parse([f"--half-life={text}"])
    assert "expected a number of at least 0" in capsys.readouterr().err


def test_a_half_life_that_changes_while_the_loop_runs_holds_from_the_next_frame_on():
    artifact = model()
    smoother = PredictionSmoother(artifact, half_life=0.0)
    start, target = certain(0.8, 0.1, 0.1), certain(0.1, 0.1, 0.8)
    smoother([1], predictions_of(start, artifact), 0.0)
    smoother.half_life = 0.5
    smoothed, _ = smoother([1], predictions_of(target, artifact), 0.5)
    np.testing.assert_allclose(smoothed.stratum_logits, (start + target) / 2, rtol=1e-6)
    smoother.half_life = 0.0
    plain, _ = smoother([1], predictions_of(target, artifact), 0.6)
    np.testing.assert_allclose(plain.probabilities, [[0.1, 0.1, 0.8]], rtol=1e-5)
