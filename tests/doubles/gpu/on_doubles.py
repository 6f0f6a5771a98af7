"""For programs that run over the doubles in a separate process: it replaces TensorRT and has functions for the tests.

Such a program begins with `from doubles.gpu.on_doubles import *`.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from dataclasses import fields

import numpy as np
import pytest

from doubles.gpu import engine_double
from iern.runtime.backends.onnx import open_session
from iern.runtime.errors import ArtifactError, EngineError, IernError, SessionError
from iern.runtime.session import Predictions

__all__ = [
    "ArtifactError",
    "EngineError",
    "IernError",
    "SessionError",
    "count",
    "engine_double",
    "faces",
    "fail",
    "is_clean",
    "largest_difference",
    "lose",
    "np",
    "open_session",
    "refusal",
    "sys",
]

sys.modules["tensorrt"] = sys.modules["tensorrt_rtx"] = engine_double

_driver = ctypes.CDLL("libcuda.so.1")
_driver.double_count.restype = ctypes.c_long


def count(what: str) -> int:
    """Return how many exist (device, pinned, streams, modules, events, graphs, pushed) or ran (kernels, replays)."""
    return _driver.double_count(what.encode())


def fail(function: str, code: int, after: int = 0) -> None:
    """Let a function of the driver fail with a code, after `after` calls that do not fail."""
    _driver.double_fail(function.encode(), after, code)


def lose(code: int) -> None:
    """Let every function of the driver fail from now on, as after the crash of a kernel."""
    _driver.double_lose(code)


def is_clean() -> bool:
    """Whether all memory was freed, and no context is left pushed."""
    gc.collect()
    kinds = ("device", "pinned", "streams", "modules", "events", "graphs", "pushed")
    left = {kind: number for kind in kinds if (number := count(kind))}
    if left or engine_double.alive:
        print("left:", left, engine_double.alive)
    return not left and not engine_double.alive


def faces(number: int, seed: int = 0) -> np.ndarray:
    """(number, 64, 64, 3) uint8."""
    return np.random.default_rng([seed, number]).integers(0, 256, (number, 64, 64, 3), np.uint8)


def largest_difference(predictions: Predictions, other: Predictions) -> float:
    """Return the largest difference. It is NaN if one of the predictions contains NaN."""
    pairs = [(getattr(predictions, field.name), getattr(other, field.name)) for field in fields(Predictions)]
    assert all(a.shape == b.shape and a.dtype == b.dtype == np.float32 for a, b in pairs)
    return float(np.max([np.abs(a - b).max(initial=0) for a, b in pairs]))


def refusal(path: str, kind: type[IernError]) -> str:
    """Return the message, on one line, of an engine that is refused."""
    with pytest.raises(kind) as error:
        open_session(path)
    assert "\n" not in str(error.value)
    return str(error.value)
