"""The GPU check's bundled network, on the CPU, and its reports of missing backends."""

from __future__ import annotations

import time

import numpy as np
import onnxruntime
import pytest
import torch

from benchmarks.gpu_check.models import (
    EXACT,
    PUBLISHED,
    SessionCall,
    bundled_network,
    configurations,
    faster_head,
    torch_implementations,
)
from benchmarks.gpu_check.plan import QUICK, Scale
from benchmarks.gpu_check.replay import compare_sessions, probability_error
from benchmarks.gpu_check.variants import COMPILED, EAGER, GRAPH
from benchmarks.latency.implementations import random_faces
from doubles.tiny_artifact import tiny_model
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.backends.trt.session import TensorRtSession
from iern.runtime.bundled import MODEL
from iern.runtime.errors import EngineError
from iern.runtime.session import Predictions

ON_CPU = {GRAPH: "no GPU", COMPILED: "takes long"}


def test_the_bundled_network_gives_the_outputs_of_its_exported_file():
    model = bundled_network()
    image = random_faces(model.config, batch=2)
    with OnnxSession(MODEL, "cpu") as session, torch.inference_mode():
        expected = session(image)
        for name, module in torch_implementations(model, session.artifact.temperature).items():
            probabilities, _, stratum_logits = (output.numpy() for output in module(torch.from_numpy(image)))
            atol = 5e-2 if "FP16" in name else 1e-3
            np.testing.assert_allclose(stratum_logits, expected.stratum_logits, atol=atol, err_msg=name)
            np.testing.assert_allclose(probabilities, expected.probabilities, atol=atol / 5, err_msg=name)


def test_the_sizes_of_heads_include_the_number_of_strata_of_the_bundled_model():
    """A short run measures the first one."""
    with OnnxSession(MODEL, "cpu") as session:
        strata = len(session.artifact.strata)
    assert Scale().strata[0] == QUICK.strata[0] == strata


def test_a_session_is_timed_and_returns_its_outputs():
    image = random_faces(bundled_network().config)
    with OnnxSession(MODEL, "cpu") as session:
        call = SessionCall(session, image)
        wall, gpu, enqueue = call()
        assert wall > 0 and gpu is enqueue is None
        np.testing.assert_array_equal(call.outputs()[0], session(image).probabilities)


def test_probabilities_that_differ_or_are_no_numbers_are_refused():
    assert probability_error(np.array([0.5, 0.5]), np.array([0.51, 0.49])) == pytest.approx(0.01)
    for wrong in (0.6, np.nan):
        with pytest.raises(EngineError, match="differ"):
            probability_error(np.array([wrong, 0.5]), np.array([0.5, 0.5]))


def test_a_replay_must_have_the_bits_of_the_single_calls_and_be_close_to_the_reference():
    with OnnxSession(tiny_model(), "cpu") as one, OnnxSession(tiny_model(seed=1), "cpu") as other:
        assert compare_sessions(one, one, one, most=3) == {"counts": 3, "probability_error": 0.0}
        with pytest.raises(EngineError, match=r"^1 faces: the replay's probabilities differ from those of the single"):
            compare_sessions(one, other, one, most=3)
        with pytest.raises(EngineError, match="from onnxruntime on the CPU"):
            compare_sessions(one, one, other, most=3)


@pytest.mark.slow
@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA"
)
def test_a_missing_backend_is_reported_and_the_others_are_measured(monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.timing.WARM_UP", 0.002)
    scale = Scale(batches=(1,), most=3, least=2, seconds=0.1)
    (measured,) = configurations(scale, ("torch", "onnxruntime", "tensorrt native"), {}, ON_CPU, "cpu")
    assert (measured["strata"], measured["batch"]) == (4, 1)
    assert set(measured["variants"]) == {f"{PUBLISHED}, {EAGER}", f"{EXACT}, {EAGER}"}
    assert all("statistics" in variant for variant in measured["variants"].values())
    assert list(measured["failed"]) == ["onnxruntime", "tensorrt native"]
    assert "CUDA" in measured["failed"]["onnxruntime"]


def measured(batch: int, **medians: float) -> dict:
    """A configuration of the bundled model with the median GPU time of each head, and opposite times of the host."""
    variants = {
        f"tensorrt {head}": {"statistics": {"gpu": {"median": value}, "wall": {"median": 9 - value}}}
        for head, value in medians.items()
    }
    return {"part": "models", "batch": batch, "variants": variants}


def test_the_faster_head_is_that_for_one_face_by_the_time_of_the_gpu():
    others = [measured(4, native=1, kernel=8), {"part": "heads", "batch": 1, "variants": {}}]
    assert faster_head([*others, measured(1, native=2, kernel=1)]) == "kernel"
    assert faster_head([*others, measured(1, native=1, kernel=2)]) == "native"
    assert faster_head([*others, measured(1, native=1)]) == "", "one alone is not faster"
    assert faster_head(others) == ""


class OnGpu(TensorRtSession):
    """The bundled file on the CPU in place of an engine, with a GPU's time, and a host that needs longer."""

    def __init__(self, inner: OnnxSession, milliseconds: float, host_seconds: float) -> None:
        self._inner, self._milliseconds, self._host_seconds = inner, milliseconds, host_seconds

    def __call__(self, faces: np.ndarray) -> Predictions:
        return self._inner(faces)

    def timed(self, faces: np.ndarray) -> tuple[Predictions, float]:
        time.sleep(self._host_seconds)
        return self._inner(faces), self._milliseconds


def test_a_run_finds_the_faster_head_of_the_bundled_model_by_the_gpus_time_not_the_hosts(monkeypatch):
    """With the strata of the bundled file. A run that measured other numbers of strata alone found no head."""
    monkeypatch.setattr("benchmarks.gpu_check.timing.WARM_UP", 0.002)
    with OnnxSession(MODEL, "cpu") as session:
        sessions = {"tensorrt native": OnGpu(session, 2.0, 0.0), "tensorrt kernel": OnGpu(session, 1.0, 0.02)}
        opened = {name: (each, {}) for name, each in sessions.items()}
        monkeypatch.setattr("benchmarks.gpu_check.models._sessions", lambda *_: (opened, {}))
        scale = Scale(batches=(4, 1), most=2, least=1, seconds=0)
        found = list(configurations(scale, tuple(sessions), {}, ON_CPU, "cpu"))
        assert [(each["strata"], each["batch"]) for each in found] == [
            (len(session.artifact.strata), b) for b in (4, 1)
        ]
    assert not any(each["failed"] for each in found)
    one_face = found[1]["variants"]
    assert one_face["tensorrt kernel"]["statistics"]["wall"]["min"] > 20
    assert faster_head(found) == "kernel"
