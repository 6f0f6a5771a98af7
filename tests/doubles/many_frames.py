"""Program: runs the loop on many frames of ever new sizes with 0 to 16 faces.

It prints the megabytes of memory after SETTLED frames and at the end, the most faces found in a frame, and
how many different numbers of faces there were.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from doubles.tiny_artifact import tiny_model
from iern.runtime.app.frame_analyzer import FrameAnalyzer
from iern.runtime.app.loop import run_loop
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.sources.base import Frame, Source
from iern.runtime.system.latency import LoopStats
from repository import PHOTOS

PHOTO = PHOTOS / "astronaut.jpg"


class Crowds(Source):
    """Frames of random sizes, with heads in a grid."""

    def __init__(self, count: int) -> None:
        super().__init__("crowds", fps=25)
        self._count = count
        self._random = np.random.default_rng(0)
        self._head = cv2.imread(str(PHOTO))[:244, 124:323]

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._count):
            yield Frame(self._picture(), index / 25, index, self.name, time.monotonic())

    def _picture(self) -> np.ndarray:
        """Up to 16 heads of equal size, in a frame that just holds them or is larger."""
        side, columns, rows = (int(v) for v in self._random.integers((48, 1, 1), (65, 5, 5)))
        heads = int(self._random.integers(0, columns * rows + 1))
        height, width = rows * side + self._random.integers(0, 40), columns * side + self._random.integers(0, 40)
        picture = np.full((height, width, 3), 127, np.uint8)
        head = cv2.resize(self._head, (side, side), interpolation=cv2.INTER_AREA)
        for number in range(heads):
            x, y = side * (number % columns), side * (number // columns)
            picture[y : y + side, x : x + side] = head
        return picture


def resident() -> float:
    """The memory of this process in megabytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main(frames: int, settled: int) -> None:
    """Run the loop and print the figures."""
    counts: set[int] = set()
    held: list[float] = []

    def measure(result: FrameResult) -> None:
        counts.add(len(result.faces))
        assert result.annotated.shape == result.frame.image.shape  # draws the result
        if result.frame.index in (settled, frames - 1):  # while the loop still has all its memory
            held.append(resident())

    with OnnxSession(tiny_model(), "cpu", threads=1) as session:
        run_loop(Crowds(frames), FrameAnalyzer(FaceDetector(), session), [measure], LoopStats())
    print(*held, max(counts), len(counts))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
