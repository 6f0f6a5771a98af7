"""Which results are passed on: at most so many a second, or only those in which the faces have changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from iern.runtime.faces.face import UNCERTAIN, Face
from iern.runtime.outputs.frame_result import FrameResult


class Selection:
    """`selection(result)` -> whether to pass the result on. Each of several sources is counted by itself."""

    def __init__(self, rate: float = 0.0, on_change: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """`rate` is the most results a second, 0 for no limit. `clock` gives seconds.

        With `on_change` a result is passed on if a face has come or gone or has another expression since the last one
        that was. A change that comes too early for the rate is passed on later, if it lasts.
        """
        self._interval = 1 / rate if rate else 0.0
        self._on_change, self._clock = on_change, clock
        self._last: dict[str, tuple[float, Hashable]] = {}
        """Source -> when its last result was passed on, and the faces in it."""

    def __call__(self, result: FrameResult) -> bool:
        now, faces, source = self._clock(), _expressions(result), result.frame.source
        last_time, last_faces = self._last.get(source, (float("-inf"), None))
        if now - last_time < self._interval or (self._on_change and faces == last_faces):
            return False
        self._last[source] = now, faces
        return True


def label_of(face: Face) -> str:
    """The expression of the face, or `uncertain`."""
    return UNCERTAIN if face.uncertain else face.expression


def _expressions(result: FrameResult) -> Hashable:
    """Who is there and with which expression, in no order. Never None."""
    return tuple(sorted((-1 if face.track is None else face.track, label_of(face)) for face in result.faces))
