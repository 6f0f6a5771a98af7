"""What stands between a frame and its faces over time, and what happens where that fails."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from iern.runtime.errors import IernError, SessionError, one_line
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.face import Face
from iern.runtime.faces.pipeline import FacePipeline
from iern.runtime.faces.smoothing import HALF_LIFE
from iern.runtime.session import Session
from iern.runtime.sources.base import Frame
from iern.runtime.system.latency import Latency, LoopStats, counted

STUCK = 30.0
"""Seconds: no frame takes so long, a GPU that never answers does."""

IN_A_ROW = 30
"""So many frames without an answer, one after another, are no accident: about a second of a camera."""


@dataclass(frozen=True)
class FrameAnalysis:
    """One frame and what was found in it."""

    frame: Frame
    faces: Sequence[Face]
    latency: Latency


class FrameAnalyzer:
    """`judge(frame)` -> its faces with their expressions. One source each, one thread each, as the detector."""

    def __init__(
        self, detector: FaceDetector, session: Session, *, detect_every: int = 1, half_life: float = HALF_LIFE
    ) -> None:
        """`detect_every` and `half_life`: see `FacePipeline`."""
        self._detector, self._session = detector, session
        self._perceive = FacePipeline(detector, session, detect_every=detect_every, half_life=half_life)
        self._segment = 0
        self._since = math.inf
        self.provider = session.provider
        """Where the model runs."""

    def warm_up(self) -> None:
        """The first call of each allocates and optimises: not on the first frame's account."""
        self._detector(np.zeros((480, 640, 3), np.uint8))
        self._session(np.zeros((1, *self._session.artifact.input.shape), np.uint8))

    def __call__(self, frame: Frame) -> FrameAnalysis:
        """Raises what the detector and the session raise."""
        self._since = time.monotonic()
        try:
            return self._judged(frame)
        finally:
            self._since = math.inf

    @property
    def stuck(self) -> bool:
        """Whether a call under way, in whatever thread, seems never to end."""
        return time.monotonic() - self._since > STUCK

    def _judged(self, frame: Frame) -> FrameAnalysis:
        if frame.segment != self._segment:
            self._segment = frame.segment
            self._perceive.new_scene()
        seen = self._perceive(frame.image, frame.time)
        age = 1000 * (time.monotonic() - frame.captured)
        return FrameAnalysis(frame, seen.faces, Latency(seen.detect, seen.preprocess, seen.infer, age))


class AnalysisFailures:
    """Counts the frames that got no answer, and says of each kind of failure once that it was met."""

    def __init__(self, tally: LoopStats) -> None:
        self._tally = tally
        self._in_a_row = 0
        self._said: set[str] = set()

    def passed(self) -> None:
        """A frame got its answer."""
        self._in_a_row = 0

    def add(self, frame: Frame, error: Exception) -> None:
        """A frame got none. Raises SessionError with the cause where that has become the rule."""
        self._tally.failed += 1
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW:
            raise self.too_many(error) from error
        if type(error).__name__ not in self._said:
            self._said.add(type(error).__name__)
            print(f"note: frame {frame.index} of {frame.name} got no answer: {_cause(error)}", flush=True)

    def too_many(self, error: Exception) -> SessionError:
        """What to raise where no further frame is likely to get an answer."""
        frames = counted(self._in_a_row, "frame")
        return SessionError(
            f"{frames} in a row got no answer, the last: {_cause(error)}; "
            "python -m iern.runtime.doctor.__main__ says whether detector and model run here"
        )


def analyzed_frames(
    frames: Iterable[Frame], judge: Callable[[Frame], FrameAnalysis], failures: AnalysisFailures
) -> Iterator[FrameAnalysis]:
    """The frames' answers, in order, without those that failed.

    Raises SessionError where IN_A_ROW frames in a row fail, or every frame there was.
    """
    answered, last = False, None
    for frame in frames:
        try:
            found = judge(frame)
        except Exception as error:  # whatever it is, the next frame may do
            last = error
            failures.add(frame, error)
            continue
        failures.passed()
        answered = True
        yield found
    if last is not None and not answered:
        raise failures.too_many(last) from last


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, IernError) else f"{type(error).__name__}: {one_line(error)}"
