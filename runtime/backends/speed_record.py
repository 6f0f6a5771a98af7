"""How much faster an 8-bit file is than its float32 file on this machine: the measurement, and the record of it.

The record is `iern/speed.json` in the user's cache folder: {"<processor, onnxruntime, threads, both files>": factor}.
Delete it to measure again.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iern.runtime.errors import OutputError
from iern.runtime.session import Session
from iern.runtime.system.files import cache_folder, write_text
from iern.runtime.system.processor import Processor

CALLS = 30
"""Timed calls of each session when the loop starts."""
SECONDS = 0.7
"""No call begins later than this when the loop starts. So the start takes about a second longer."""
MOST_ENTRIES = 50
"""The oldest entries of the record are dropped."""


def speed_up(
    given: Session, small: Session, face: NDArray[np.uint8], calls: int = CALLS, seconds: float = SECONDS
) -> float:
    """The median time of one face (1, S, S, 3) with `given`, over that with `small`. They are called in turn.

    `calls` is the largest number of timed calls of each, and after `seconds` none begins but the first of each. The
    time is that of the processor, on all threads. A clock would mostly count the other programs of a busy machine,
    which at a start of the system is the usual case.
    """
    end = time.perf_counter() + seconds
    times: tuple[list[float], list[float]] = [], []
    for session in (given, small):
        session(face)  # the first call allocates
    for number in range(calls):
        if number and time.perf_counter() >= end:
            break
        for session, own in zip((given, small), times, strict=True):
            start = time.process_time()
            session(face)
            own.append(time.process_time() - start)
    return statistics.median(times[0]) / statistics.median(times[1])


def record_path() -> Path:
    """The path of the record in the user's cache folder. Raises RuntimeError if there is no home folder."""
    return cache_folder() / "speed.json"


def key_of(processor: Processor, onnxruntime: str, threads: int, given_sha256: str, small_sha256: str) -> str:
    """The key of a measurement: everything that it depends on."""
    instructions = " ".join(processor.dot_products or ())
    files = f"{given_sha256[:16]} {small_sha256[:16]}"
    return f"{processor} ({instructions}), onnxruntime {onnxruntime}, {threads} threads, files {files}"


def read_speed_up(key: str) -> float | None:
    """The recorded factor. None if there is no such entry, or the record cannot be read."""
    found = _read().get(key)
    return found if isinstance(found, float) and math.isfinite(found) and found > 0 else None


def record_speed_up(key: str, factor: float) -> None:
    """Add a factor to the record. If that cannot be written, the next start measures again."""
    entries = {**{other: value for other, value in _read().items() if other != key}, key: round(factor, 3)}
    newest = dict(list(entries.items())[-MOST_ENTRIES:])
    with contextlib.suppress(OutputError, OSError, RuntimeError):
        write_text(record_path(), json.dumps(newest, indent=1) + "\n")


def _read() -> dict[str, object]:
    try:
        found = json.loads(record_path().read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError):  # absent, unreadable, without a home folder, or damaged
        return {}
    return found if isinstance(found, dict) else {}
