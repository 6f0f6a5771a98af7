"""Two files of one model in the pipeline: the strata collapsed in most frames, all of them now and then."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from doubles.tiny_artifact import STRATA, tiny_artifact, tiny_model
from iern.runtime.backends.onnx import open_session
from iern.runtime.faces.strata import FULL_EVERY, StratumPredictor
from iern.runtime.session import Predictions, Session

FACES = np.random.default_rng(3).integers(0, 256, (4, 32, 32, 3), np.uint8)


class Collapsed(Session):
    """The given model with its strata collapsed: the mean of their logits alone. Counts its calls."""

    def __init__(self, model: Session) -> None:
        artifact = dataclasses.replace(model.artifact, strata=("mean",), collapsed_from=len(STRATA))
        super().__init__(artifact, "cpu", model.max_batch)
        self._model, self.calls = model, 0

    def _run(self, faces: np.ndarray) -> Predictions:
        self.calls += 1
        found = self._model(faces)
        return dataclasses.replace(found, stratum_logits=found.logits[:, np.newaxis])

    def _free(self) -> None:
        pass


@pytest.fixture
def model():
    with open_session(tiny_model(), provider="cpu", threads=1) as opened:
        yield opened


def predict_all(predictor, *calls):
    return [predictor(FACES[list(faces)], ids, seconds) for faces, ids, seconds in calls]


def test_the_answers_are_those_of_all_strata_whichever_file_runs(model):
    # The differences of the tiny model's strata depend on the face, so a kept difference is that of the face before.
    predictor = StratumPredictor(model, collapsed := Collapsed(model))
    first, second = predict_all(predictor, ((0,), [1], 0.0), ((1,), [1], 0.1))
    assert collapsed.calls == 1
    before, now = model(FACES[:1]), model(FACES[1:2])
    np.testing.assert_array_equal(first.stratum_logits, before.stratum_logits)
    np.testing.assert_allclose(second.logits, now.logits, atol=1e-5)
    np.testing.assert_allclose(second.probabilities, now.probabilities, atol=1e-6)
    expected = now.logits[:, None] + before.stratum_logits - before.logits[:, None]
    np.testing.assert_allclose(second.stratum_logits, expected, atol=1e-5)


def test_all_strata_run_for_a_new_track_after_a_second_and_when_the_clock_goes_back(model):
    predictor = StratumPredictor(model, collapsed := Collapsed(model))
    predict_all(predictor, ((0,), [1], 0.0), ((0,), [1], 0.5))
    assert collapsed.calls == 1
    predict_all(predictor, ((0, 1), [1, 2], 0.6))
    assert collapsed.calls == 1, "a new track"
    predict_all(predictor, ((1, 0), [2, 1], 0.7))
    assert collapsed.calls == 2
    predict_all(predictor, ((0, 1), [1, 2], 0.6 + FULL_EVERY))
    assert collapsed.calls == 2, "a second has passed"
    predict_all(predictor, ((0,), [1], 0.2))
    assert collapsed.calls == 2, "the clock went back"


def test_each_track_keeps_its_own_differences_whatever_their_order(model):
    predictor = StratumPredictor(model, Collapsed(model))
    (before,), (after,) = (predict_all(predictor, call) for call in (((0, 1), [1, 2], 0.0), ((1, 0), [2, 1], 0.1)))
    np.testing.assert_allclose(after.stratum_logits, before.stratum_logits[::-1], atol=1e-5)


def test_without_a_collapsed_file_and_without_a_face_the_model_itself_runs(model):
    alone = StratumPredictor(model)
    assert [len(each.logits) for each in predict_all(alone, ((0,), [1], 0.0), ((), [], 0.1))] == [1, 0]
    predictor = StratumPredictor(model, collapsed := Collapsed(model))
    assert predictor(FACES[:0], [], 0.0).stratum_logits.shape == (0, 2, 3)
    assert collapsed.calls == 0


def test_the_mean_of_probabilities_is_kept_if_the_model_averages_those():
    artifact = dataclasses.replace(tiny_artifact(), answer="probabilities")
    with open_session(tiny_model(artifact), provider="cpu", threads=1) as model:
        predictor = StratumPredictor(model, Collapsed(model))
        _, again = predict_all(predictor, ((0, 2), [1, 2], 0.0), ((0, 2), [1, 2], 0.1))
        strata = again.stratum_logits.astype(np.float64)
        powers = np.exp(strata - strata.max(axis=-1, keepdims=True))
        np.testing.assert_allclose(
            again.probabilities, (powers / powers.sum(axis=-1, keepdims=True)).mean(axis=1), atol=1e-6
        )
