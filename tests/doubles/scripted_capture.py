"""A camera for tests that fails as no server can be told to: stands in for `cv2.VideoCapture`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np

Step = np.ndarray | Exception | Callable[[], None] | None
"""A picture to give, an error to raise, something to do before the next step, or None: a read that says False."""


class ScriptedCapture:
    """Does one step a read; after the last one every read says False, as OpenCV does after a loss."""

    def __init__(
        self, steps: Iterable[Step], pause: float = 0.005, positions: Iterable[float] = (), fps: float = 30.0
    ) -> None:
        """`pause`: seconds a read takes; `positions`: what CAP_PROP_POS_MSEC says after each picture."""
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

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FPS: self._fps, cv2.CAP_PROP_POS_MSEC: self._position}.get(what, 0.0)

    def set(self, what: int, value: float) -> bool:
        return False

    def getBackendName(self) -> str:
        return "SCRIPTED"

    def release(self) -> None:
        self.released.set()


def noise(count: int | None = None, width: int = 64, height: int = 48) -> Iterator[np.ndarray]:
    """So many pictures that all differ, or without end."""
    random = np.random.default_rng(0)
    made = 0
    while made != count:
        made += 1
        yield random.integers(50, 200, (height, width, 3), dtype=np.uint8)
