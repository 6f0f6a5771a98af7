"""Analyzes frames: each frame's faces over time, and what happens if the analysis of a frame fails."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from iern.runtime.errors import IernError, SessionError, one_line
from iern.runtime.faces.detector_protocol import Detector
from iern.runtime.faces.face import Face
from iern.runtime.faces.pipeline import FacePipeline
from iern.runtime.faces.search import Search
from iern.runtime.faces.smoothing import HALF_LIFE
from iern.runtime.session import Session
from iern.runtime.sources.base import Frame
from iern.runtime.system.latency import Latency, LoopStats, counted

STUCK_AFTER = 30.0
"""Seconds in one frame after which the analyzer counts as stuck. Only a GPU that never returns takes so long."""

MAX_FAILURES_IN_A_ROW = 30
"""Failed frames in a row that end the loop: about a second of a camera."""


@dataclass(frozen=True)
class FrameAnalysis:
    """One frame, the faces that were found in it, and how long that took."""

    frame: Frame
    faces: Sequence[Face]
    latency: Latency


class FrameAnalyzer:
    """`analyzer(frame)` -> FrameAnalysis. Use one analyzer per source and thread."""

    def __init__(
        self,
        detector: Detector,
        session: Session,
        *,
        collapsed: Session | None = None,
        search: Search = "tracked",
        half_life: float = HALF_LIFE,
    ) -> None:
        """`collapsed`, `search` and `half_life`: see `FacePipeline`."""
        self.detector = detector
        self.session = session
        self._sessions = [session] if collapsed is None else [session, collapsed]
        self._pipeline = FacePipeline(detector, session, collapsed=collapsed, search=search, half_life=half_life)
        self._segment = 0
        self._started = math.inf
        self.provider = session.provider
        """Where the model runs."""

    def warm_up(self) -> None:
        """Run the detector and the models once. Their first calls allocate and optimise, which takes long."""
        self.detector(np.zeros((480, 640, 3), np.uint8))
        for session in self._sessions:
            session(np.zeros((1, *session.artifact.input.shape), np.uint8))

    def __call__(self, frame: Frame) -> FrameAnalysis:
        """Find the frame's faces and predict their expressions. Raises what the detector and the session raise."""
        self._started = time.monotonic()
        try:
            return self._analyze(frame)
        finally:
            self._started = math.inf

    @property
    def half_life(self) -> float:
        """Seconds after which a prediction counts half. 0: no smoothing. Any thread may change it."""
        return self._pipeline.half_life

    @half_life.setter
    def half_life(self, seconds: float) -> None:
        self._pipeline.half_life = seconds

    @property
    def stuck(self) -> bool:
        """Whether the current call has taken so long that it will probably never return. Any thread may ask."""
        return time.monotonic() - self._started > STUCK_AFTER

    def _analyze(self, frame: Frame) -> FrameAnalysis:
        if frame.segment != self._segment:
            self._segment = frame.segment
            self._pipeline.reset()
        result = self._pipeline(frame.image, frame.time, frame.photograph)
        age = 1000 * (time.monotonic() - frame.captured)
        return FrameAnalysis(frame, result.faces, Latency(result.detect, result.preprocess, result.infer, age))


class AnalysisFailures:
    """Counts the frames whose analysis failed. The first failure of each kind is printed."""

    def __init__(self, stats: LoopStats) -> None:
        self._stats = stats
        self._in_a_row = 0
        self._printed: set[str] = set()

    def end_row(self) -> None:
        """Count from 0 again, because a frame was analyzed."""
        self._in_a_row = 0

    def add(self, frame: Frame, error: Exception) -> None:
        """Count a failed frame. Raises SessionError with the cause after MAX_FAILURES_IN_A_ROW."""
        self._stats.failed += 1
        self._in_a_row += 1
        if self._in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise self.too_many(error) from error
        kind = type(error).__name__
        if kind not in self._printed:
            self._printed.add(kind)
            print(f"note: frame {frame.index} of {frame.name} failed: {_cause(error)}", flush=True)

    def too_many(self, error: Exception) -> SessionError:
        """Return the error to raise if no later frame is likely to succeed."""
        frames = counted(self._in_a_row, "frame")
        return SessionError(
            f"{frames} in a row failed; the last error: {_cause(error)}; "
            "python -m iern.runtime.doctor checks whether the detector and the model run here"
        )


def analyzed_frames(
    frames: Iterable[Frame], analyze: Callable[[Frame], FrameAnalysis], failures: AnalysisFailures
) -> Iterator[FrameAnalysis]:
    """Analyze the frames in order, and leave out those that fail.

    Raises SessionError if MAX_FAILURES_IN_A_ROW frames in a row fail, or if every frame fails.
    """
    any_succeeded, last_error = False, None
    for frame in frames:
        try:
            analysis = analyze(frame)
        except Exception as error:  # whatever it is, the next frame may succeed
            last_error = error
            failures.add(frame, error)
            continue
        failures.end_row()
        any_succeeded = True
        yield analysis
    if last_error is not None and not any_succeeded:
        raise failures.too_many(last_error) from last_error


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, IernError) else f"{type(error).__name__}: {one_line(error)}"
