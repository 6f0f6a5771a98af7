"""A double of `cv2.VideoCapture` that fails in ways in which no server can."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np

Step = np.ndarray | Exception | Callable[[], None] | None
"""An image to return, an error to raise, a function to call before the next step, or None: the read returns False."""


class ScriptedCapture:
    """Takes one step a read. After the last one every read returns False, as OpenCV does after a loss."""

    def __init__(
        self, steps: Iterable[Step], pause: float = 0.005, positions: Iterable[float] = (), fps: float = 30.0
    ) -> None:
        """`pause`: seconds that a read takes. `positions`: CAP_PROP_POS_MSEC after each image."""
        self.released = threading.Event()
        self.read_in: set[threading.Thread] = set()
        self._steps: Iterator[Step] = iter(steps)
        self._positions = iter(positions)
        self._position = 0.0
        self._pause = pause
        self._fps = fps

    def isOpened(self) -> bool:
        return not self.released.is_set()

    def read(self) -> tuple[bool, np.ndarray | None]:
        assert not self.released.is_set(), "read after release: OpenCV crashes"
        self.read_in.add(threading.current_thread())
        time.sleep(self._pause)
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            if step is None:
                return False, None
            if isinstance(step, np.ndarray):
                self._position = next(self._positions, self._position)
                return True, step
            step()
        return False, None

    def get(self, number: int) -> float:
        return {cv2.CAP_PROP_FPS: self._fps, cv2.CAP_PROP_POS_MSEC: self._position}.get(number, 0.0)

    def set(self, number: int, value: float) -> bool:
        return False

    def getBackendName(self) -> str:
        return "SCRIPTED"

    def release(self) -> None:
        self.released.set()


def noise(count: int | None = None, width: int = 64, height: int = 48) -> Iterator[np.ndarray]:
    """N images that all differ; endless if `count` is None."""
    random = np.random.default_rng(0)
    made = 0
    while made != count:
        made += 1
        yield random.integers(50, 200, (height, width, 3), dtype=np.uint8)
