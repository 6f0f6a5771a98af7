"""The GPU check's whole networks, on the CPU, and its reports of missing backends."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from benchmarks.gpu_check.models import (
    SessionCall,
    build_engine,
    configurations,
    faster_head,
    network_with_strata,
    probability_error,
    strata_of_bundled,
    tensorrt_of,
    torch_implementations,
)
from benchmarks.gpu_check.plan import Scale
from benchmarks.gpu_check.variants import COMPILED, EAGER, GRAPH
from benchmarks.latency.implementations import exported_file, random_faces
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.backends.trt.engine_file import read_engine
from iern.runtime.bundled import MODEL
from iern.runtime.errors import EngineError

ON_CPU = {GRAPH: "no GPU", COMPILED: "takes long"}


def test_the_bundled_network_gives_the_logits_of_its_exported_file():
    count = strata_of_bundled()
    image = random_faces(network_with_strata(count).config, batch=2)
    with OnnxSession(MODEL, "cpu") as session, torch.inference_mode():
        expected = session(image).stratum_logits
        for name, module in torch_implementations(network_with_strata(count)).items():
            found = module(torch.from_numpy(image))[2].numpy()
            np.testing.assert_allclose(found, expected, atol=5e-2 if "FP16" in name else 1e-3, err_msg=name)


@pytest.mark.parametrize("strata", [1, 10])
def test_another_number_of_strata_keeps_the_centres_and_gives_each_stratum_its_own(strata):
    model, trained = network_with_strata(strata), network_with_strata(strata_of_bundled())
    kept = min(strata, len(trained.confounders))
    assert torch.equal(model.confounders[:kept], trained.confounders[:kept])
    flat = model.confounders.flatten(1)
    assert len(torch.unique(flat, dim=0)) == strata == len(model.config.strata)
    with torch.inference_mode():
        logits = model.stratum_logits(model.normalise(torch.from_numpy(random_faces(model.config))))
    assert logits.isfinite().all()


def test_a_session_is_timed_and_returns_its_outputs():
    model = network_with_strata(1)
    image = random_faces(model.config)
    with OnnxSession(exported_file(model), "cpu") as session:
        call = SessionCall(session, image, "cpu")
        wall, gpu, enqueue = call()
        assert 0 < wall <= gpu and enqueue is None
        np.testing.assert_array_equal(call.outputs()[0], session(image).probabilities)


def test_probabilities_that_differ_or_are_no_numbers_are_refused():
    assert probability_error(np.array([0.5, 0.5]), np.array([0.51, 0.49])) == pytest.approx(0.01)
    for wrong in (0.6, np.nan):
        with pytest.raises(EngineError, match="differ"):
            probability_error(np.array([wrong, 0.5]), np.array([0.5, 0.5]))


@pytest.mark.slow
@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA"
)
def test_a_missing_backend_is_reported_and_the_others_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.timing.WARM_UP", 0.002)
    scale = Scale(strata=(1,), batches=(1,), most=3, least=2, seconds=0.1)
    found = list(configurations(scale, ("torch", "onnxruntime"), ON_CPU, "cpu", tmp_path))
    assert [(measured["strata"], measured["batch"]) for measured in found] == [(1, 1)]
    for measured in found:
        assert set(measured["variants"]) == {
            f"{name}, {EAGER}" for name in torch_implementations(network_with_strata(1))
        }
        assert all("statistics" in variant for variant in measured["variants"].values())
        assert list(measured["failed"]) == ["onnxruntime"]
        assert "CUDA" in measured["failed"]["onnxruntime"]


@pytest.mark.slow
@pytest.mark.parametrize("strata", [1, 10])
def test_the_bundled_network_with_other_strata_becomes_an_engine(tmp_path, strata):
    """With the TensorRT that is installed; the one for RTX needs no GPU."""
    if not any(importlib.util.find_spec(name) for name in ("tensorrt_rtx_bindings", "tensorrt")):
        pytest.skip("neither TensorRT nor TensorRT for RTX is installed")
    found = read_engine(build_engine(network_with_strata(strata), "kernel", tmp_path / "build_engine"))
    assert len(found.artifact.strata) == strata
    assert found.tail is not None


def test_the_error_of_an_engine_that_cannot_be_built_is_the_commands(tmp_path):
    with pytest.raises(EngineError, match=r"export/to_trt\.py, status 2: .*--head: invalid choice"):
        build_engine(network_with_strata(1), "no such head", tmp_path / "build_engine")


def measured(strata: int, batch: int, **medians: float) -> dict:
    """A configuration of models with the median time of each session."""
    names = {"native": "tensorrt native", "kernel": "tensorrt kernel"}
    variants = {names[head]: {"statistics": {"gpu": {"median": value}}} for head, value in medians.items()}
    return {"part": "models", "strata": strata, "batch": batch, "variants": variants}


def test_the_faster_head_is_that_for_one_face_of_the_bundled_network():
    others = [measured(1, 1, native=1, kernel=9), measured(3, 4, native=1, kernel=9)]
    assert faster_head([*others, measured(3, 1, native=2, kernel=1)], strata=3) == "kernel"
    assert faster_head([*others, measured(3, 1, native=1, kernel=2)], strata=3) == "native"
    assert faster_head([*others, measured(3, 1, native=1)], strata=3) == "", "one alone is not faster"
    assert faster_head(others, strata=3) == ""


def test_the_version_of_tensorrt_is_that_of_the_engines_measured():
    found = measured(3, 1, native=1, kernel=2)
    assert tensorrt_of([found]) == ""
    found["variants"]["tensorrt kernel"]["tensorrt"] = "10.3.0"
    assert tensorrt_of([measured(1, 1, native=1), found]) == "10.3.0"


def test_the_bundled_checkpoint_is_where_it_is_looked_for():
    assert Path(MODEL).with_suffix(".pt").is_file()
