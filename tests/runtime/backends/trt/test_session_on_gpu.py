"""A TensorRT engine on a GPU gives the outputs of onnxruntime on the CPU in single precision, with either head."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from iern.runtime.backends.onnx import OnnxSession, open_session
from iern.runtime.backends.trt.engine_file import HEADS
from iern.runtime.bundled import MODEL
from iern.runtime.doctor.probes import cuda
from iern.runtime.session import Session

CHECKPOINT = MODEL.with_suffix(".pt")
TOLERANCE = 3e-2
"""Probabilities. Half precision has 10 bits, and these faces are noise without a clear expression."""
LARGEST = 16


def missing() -> str:
    """Return what this machine lacks, in words. Empty if it has everything."""
    if not cuda().get("gpus"):
        return "needs an NVIDIA GPU"
    names = ("tensorrt", "pycuda", "torch", "timm", "onnx")
    return ", ".join(f"needs {name}" for name in names if importlib.util.find_spec(name) is None)


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing")]


@pytest.fixture(scope="module", params=HEADS)
def engine(request, tmp_path_factory) -> Path:
    """Build an engine of the bundled model with the export command."""
    folder = tmp_path_factory.mktemp(request.param)
    options = ["--backend", "tensorrt", "--head", request.param, "--max-batch", str(LARGEST)]
    command = [sys.executable, "-m", "iern.export.to_trt", CHECKPOINT, *options, "-o", folder / "bundled.onnx"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.engine")
    return built


@pytest.fixture
def session(engine) -> Iterator[Session]:
    with open_session(engine, max_batch=LARGEST) as opened:
        yield opened


@pytest.fixture(scope="module")
def on_cpu() -> Iterator[Session]:
    with OnnxSession(MODEL, "cpu") as opened:
        yield opened


def faces(count: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8 noise."""
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), np.uint8)


def test_any_number_of_faces_gets_the_outputs_of_the_cpu(session, on_cpu):
    for count in (1, 3, 4, 7, 16, 20, 1):
        batch = faces(count, on_cpu.artifact.input.size)
        found, expected = session(batch), on_cpu(batch)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=TOLERANCE)
        assert found.stratum_logits.shape == expected.stratum_logits.shape
        np.testing.assert_allclose(found.stratum_logits.mean(axis=1), found.logits, atol=1e-4)


def test_a_face_gets_the_same_outputs_every_time(session):
    batch = faces(1, session.artifact.input.size)
    first = session(batch)
    for _ in range(50):
        np.testing.assert_array_equal(session(batch).logits, first.logits)


def test_the_engine_has_the_metadata_of_the_exported_file(session, on_cpu):
    assert session.artifact.expressions == on_cpu.artifact.expressions
    assert session.artifact.strata == on_cpu.artifact.strata
    assert session.artifact.input == on_cpu.artifact.input


def test_earlier_predictions_do_not_change(session):
    """They are new arrays, not the buffers of the session."""
    one, other = (faces(count, session.artifact.input.size)[:1] for count in (1, 2))
    kept = session(one)
    copied = kept.logits.copy()
    session(other)
    np.testing.assert_array_equal(kept.logits, copied)
