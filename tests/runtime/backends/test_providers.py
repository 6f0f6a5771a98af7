"""The order of the providers, their settings, and the message for a provider that cannot be used."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from doubles.tiny_artifact import tiny_model
from iern.runtime.backends.providers import (
    PROVIDERS,
    engine_cache_folder,
    import_onnxruntime,
    load_on_cpu,
    load_on_gpu,
    ort_message,
    provider_order,
    provider_settings,
    runs_operations,
)
from iern.runtime.errors import SessionError

CPU, CUDA, TENSORRT = (PROVIDERS[key].name for key in ("cpu", "cuda", "tensorrt"))
AVAILABLE = onnxruntime.get_available_providers()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("requested", "available", "expected"),
    [
        ("auto", [CPU], ["cpu"]),
        ("auto", [CUDA, CPU], ["cuda", "cpu"]),
        ("auto", [TENSORRT, CUDA, CPU], ["cuda", "cpu"]),
        ("cpu", [TENSORRT, CUDA, CPU], ["cpu"]),
        ("cuda", [CPU], ["cuda", "cpu"]),
        ("tensorrt", [TENSORRT, CUDA, CPU], ["tensorrt", "cuda", "cpu"]),
    ],
)
def test_the_requested_provider_comes_first_and_the_cpu_last(requested, available, expected):
    assert provider_order(requested, available) == expected


def test_an_unknown_provider_is_refused_with_the_known_ones():
    with pytest.raises(SessionError, match=r"'tpu'.*auto, cpu, cuda, tensorrt"):
        provider_order("tpu", [CPU])


@pytest.mark.parametrize("key", ["cuda", "tensorrt"])
def test_a_provider_that_onnxruntime_lacks_is_refused_with_the_build_that_has_it(key):
    if PROVIDERS[key].name in AVAILABLE:
        pytest.skip("this onnxruntime has it")
    with pytest.raises(SessionError, match=rf"without {PROVIDERS[key].title}.*iern\[gpu\]"):
        load_on_gpu(import_onnxruntime(), tiny_model(), key, 1, 1)


def test_a_retrained_model_with_the_same_name_does_not_use_the_old_engines(tmp_path, cache):
    path = tmp_path / "model.onnx"
    folders = []
    for seed in (0, 1, 0):
        path.write_bytes(tiny_model(seed=seed))
        folders.append(engine_cache_folder(path))
    assert folders[0] == folders[2] != folders[1]
    assert folders[0] == engine_cache_folder(tiny_model(seed=0))
    assert all(cache in folder.parents for folder in folders)


def test_engines_of_two_batch_sizes_have_separate_folders_and_share_their_timings():
    model = tiny_model()
    (_, one), (_, four) = (provider_settings("tensorrt", model, batch)[0] for batch in (1, 4))
    assert one["trt_engine_cache_path"] != four["trt_engine_cache_path"]
    assert one["trt_timing_cache_path"] == four["trt_timing_cache_path"] == str(engine_cache_folder(model))
    assert all(Path(options["trt_engine_cache_path"]).is_dir() for options in (one, four))


def test_a_cuda_graph_is_used_with_cuda_alone_and_not_with_tensorrt():
    ((name, options),) = provider_settings("cuda", tiny_model(), 1)
    assert (name, options["enable_cuda_graph"]) == (CUDA, "1")
    tensorrt, cuda = provider_settings("tensorrt", tiny_model(), 1)
    assert (tensorrt[0], cuda[0]) == (TENSORRT, CUDA)
    assert "enable_cuda_graph" not in tensorrt[1] | cuda[1]


def test_onnxruntime_reports_which_provider_runs_the_operations():
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    graph = ort.InferenceSession(tiny_model(), options, providers=[CPU])
    assert runs_operations(graph, CPU)
    assert runs_operations(graph, TENSORRT) == (not hasattr(graph, "get_provider_graph_assignment_info"))


def test_the_message_of_onnxruntime_is_one_line_without_its_prefix():
    with pytest.raises(Exception, match="ONNXRuntimeError") as refusal:
        load_on_cpu(import_onnxruntime(), b"no model", 1)
    message = ort_message(refusal.value)
    assert message
    assert "\n" not in message
    assert "ONNXRuntimeError" not in message
