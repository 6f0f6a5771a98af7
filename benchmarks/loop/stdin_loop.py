"""The loop of a contestant that has none: raw frames from stdin, and a JSON record of each, as `webcam.py` writes it.

It needs only NumPy, since it also runs in the interpreters of other packages.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Analyse = Callable[[NDArray[np.uint8]], tuple[int, Mapping[str, float]]]
"""(H, W, 3) uint8 BGR frame -> its number of faces, and the milliseconds of the stages that it measures itself."""


def answer_frames(analyse: Analyse, size: str, records: str) -> None:
    """Analyse frames of `size`, as 640x480, from stdin until it ends, and write a record of each to `records`."""
    width, height = map(int, size.split("x"))
    with open(records, "wb", buffering=0) as file:
        while len(data := sys.stdin.buffer.read(width * height * 3)) == width * height * 3:
            frame = np.frombuffer(data, np.uint8).reshape(height, width, 3).copy()  # as a camera gives it: writable
            start = time.perf_counter()
            faces, stages = analyse(frame)
            latency = {**stages, "total": 1000 * (time.perf_counter() - start)}
            file.write(json.dumps({"faces": [None] * faces, "latency_ms": latency}).encode() + b"\n")
