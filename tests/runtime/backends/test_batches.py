"""Fixed batches and bound tensors, as used on a GPU, give the same outputs as plain calls.

Without a GPU, onnxruntime's CPU provider takes the place of CUDA: the same code fixes the batch, binds the tensors and
replays, with tensors in ordinary memory. Only the tests marked `gpu` check CUDA itself.
"""

from __future__ import annotations

import ctypes.util
import dataclasses
import shutil

import numpy as np
import onnxruntime
import pytest

from doubles.tiny_artifact import tiny_artifact, tiny_model
from iern.runtime.backends.batches import FixedBatch
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.backends.providers import PROVIDERS, import_onnxruntime, load_on_gpu
from iern.runtime.bundled import MODEL
from iern.runtime.errors import SessionError
from iern.runtime.session import batch_sizes

SIZE = 32
ROUNDING = 1e-4
"""Logits. onnxruntime sums 1,024 float32 pixels in another order for one face than for several."""


def faces(count: int, seed: int = 3) -> np.ndarray:
    """(count, 32, 32, 3) uint8 noise around another colour in each face."""
    random = np.random.default_rng(seed)
    colours = random.integers(0, 200, (count, 1, 1, 3))
    return (colours + random.integers(0, 56, (count, SIZE, SIZE, 3))).astype(np.uint8)


@pytest.fixture
def cpu_as_cuda(monkeypatch):
    """Let `cuda` run the code for a GPU on the CPU."""
    monkeypatch.setitem(
        PROVIDERS, "cuda", dataclasses.replace(PROVIDERS["cuda"], name="CPUExecutionProvider", device="cpu")
    )


def fixed_batch(size: int) -> FixedBatch:
    ort = import_onnxruntime()
    return FixedBatch(ort, load_on_gpu(ort, tiny_model(), "cuda", 1, size), tiny_artifact(), size, "cpu")


@pytest.mark.parametrize("largest", [1, 2, 4, 5, 16, 40])
def test_every_number_of_faces_fits_a_prepared_batch_and_one_face_has_its_own(largest):
    sizes = batch_sizes(largest)
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (1, largest)


def test_the_graph_has_a_fixed_batch(cpu_as_cuda):
    graph = load_on_gpu(import_onnxruntime(), tiny_model(), "cuda", 1, 4)
    assert [tensor.shape[0] for tensor in (*graph.get_inputs(), *graph.get_outputs())] == [4, 4, 4, 4]


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 16, 17, 40])
@pytest.mark.parametrize("strict", [False, True])
def test_any_number_of_faces_gets_the_outputs_of_plain_calls(cpu_as_cuda, count, strict):
    with OnnxSession(tiny_model(), "cuda", strict) as fixed, OnnxSession(tiny_model(), "cpu") as plain:
        assert (fixed.provider, fixed.note) == ("cuda", "")
        for field in dataclasses.fields(fixed(faces(count))):
            found, expected = (getattr(session(faces(count)), field.name) for session in (fixed, plain))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)


def test_the_bundled_model_gives_the_same_outputs_with_fixed_batches(cpu_as_cuda):
    batch = np.random.default_rng(5).integers(0, 256, (5, 112, 112, 3), np.uint8)
    with OnnxSession(MODEL, "cuda", strict=True, max_batch=5) as fixed, OnnxSession(MODEL, "cpu") as plain:
        for count in (1, 3, 5):
            found, expected = fixed(batch[:count]), plain(batch[:count])
            np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-4)


def test_faces_that_are_a_view_into_other_memory_get_the_same_outputs(cpu_as_cuda):
    batch = faces(6)
    with OnnxSession(tiny_model(), "cuda") as session:
        view, copy = batch[::2, :, ::-1], np.ascontiguousarray(batch[::2, :, ::-1])
        np.testing.assert_array_equal(session(view).logits, session(copy).logits)


def test_outputs_do_not_change_with_later_or_earlier_batches(cpu_as_cuda):
    batch = fixed_batch(4)
    first = batch(faces(2))
    kept = [array.copy() for array in first]
    batch(faces(4, seed=9))
    again = batch(faces(2))
    for array, before, after in zip(first, kept, again, strict=True):
        np.testing.assert_array_equal(array, before)
        np.testing.assert_array_equal(array, after)


def test_tensors_keep_their_addresses(cpu_as_cuda):
    batch = fixed_batch(4)
    tensors = (batch._input, *batch._outputs)
    before = [tensor.data_ptr() for tensor in tensors]
    for count in (1, 4, 3):
        batch(faces(count))
    assert [tensor.data_ptr() for tensor in tensors] == before


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA may really work")
def test_a_device_that_fails_is_named_with_the_reason_and_the_cpu_is_used(monkeypatch):
    monkeypatch.setitem(PROVIDERS, "cuda", dataclasses.replace(PROVIDERS["cuda"], name="CPUExecutionProvider"))
    with OnnxSession(tiny_model(), "cuda") as session:
        assert session.provider == "cpu"
        assert session.note.startswith("CUDA cannot run the whole model (")
        assert "check nvidia-smi" in session.note
        assert len(session(faces(2)).logits) == 2
    with pytest.raises(SessionError, match=r"the model in memory: CUDA cannot run the whole model.*--strict"):
        OnnxSession(tiny_model(), "cuda", strict=True)


@pytest.mark.parametrize(
    ("owner", "method", "reason"),
    [
        ("OrtValue", "ortvalue_from_numpy", "out of memory"),
        ("InferenceSession", "run_with_iobinding", "no kernel image is available for execution on the device"),
    ],
)
def test_a_device_that_fails_in_its_memory_or_first_run_fails_when_the_session_opens(
    cpu_as_cuda, monkeypatch, owner, method, reason
):
    def fails(*_: object) -> None:
        raise RuntimeError(reason)

    monkeypatch.setattr(getattr(import_onnxruntime(), owner), method, fails)
    with OnnxSession(tiny_model(), "cuda") as session:
        assert session.provider == "cpu"
        assert session.note.startswith(f"CUDA cannot run the whole model ({reason})")


def test_tensorrt_falls_back_to_cuda_before_the_cpu(cpu_as_cuda):
    if PROVIDERS["tensorrt"].name in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has TensorRT")
    with OnnxSession(tiny_model(), "tensorrt") as session:
        assert session.provider == "cuda"
        assert "without TensorRT" in session.note
        assert len(session(faces(5)).logits) == 5


@pytest.mark.gpu
@pytest.mark.parametrize("key", ["cuda", "tensorrt"])
def test_a_gpu_gives_the_outputs_of_the_cpu_for_any_number_of_faces(key, tmp_path, monkeypatch):
    if shutil.which("nvidia-smi") is None or PROVIDERS[key].name not in onnxruntime.get_available_providers():
        pytest.skip("needs an NVIDIA GPU and onnxruntime-gpu")
    if key == "tensorrt" and not ctypes.util.find_library("nvinfer"):
        pytest.skip("needs TensorRT's libnvinfer")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with OnnxSession(tiny_model(), key, strict=True) as gpu, OnnxSession(tiny_model(), "cpu") as cpu:
        assert (gpu.provider, gpu.note) == (key, "")
        for count in (1, 3, 4, 7, 16, 20, 1):
            batch = faces(count, seed=count)
            np.testing.assert_allclose(gpu(batch).logits, cpu(batch).logits, atol=1e-2)  # TF32 has 10 bits
