"""Analyzes frames of one or more sources: their faces over time, and what happens if the analysis of a frame fails."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from iern.runtime.errors import IernError, ServerLostError, SessionError, one_line
from iern.runtime.faces.detector_protocol import Detector
from iern.runtime.faces.face import Face
from iern.runtime.faces.pipeline import FacePipeline, FoundFaces
from iern.runtime.faces.search import Search
from iern.runtime.faces.smoothing import HALF_LIFE
from iern.runtime.session import Predictions, Session, split
from iern.runtime.sources.base import Frame
from iern.runtime.system.latency import Latency, LoopStats, counted, stopwatch

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
    """`analyzer(frames)` -> a FrameAnalysis of each, or its error. Use one analyzer for all sources, in one thread.

    Each source (`Frame.source`) has its own tracks and its own smoothing. The detector runs on each frame by itself,
    the model on the faces of all frames at once.
    """

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
        self._half_life = half_life
        self._make_pipeline = functools.partial(FacePipeline, detector, session, collapsed=collapsed, search=search)
        self._pipelines: dict[str, FacePipeline] = {}
        self._segments: dict[str, int] = {}
        self._started = math.inf
        self.provider = session.provider
        """Where the model runs."""

    def warm_up(self) -> None:
        """Run the detector and the models once. Their first calls allocate and optimise, which takes long."""
        self.detector(np.zeros((480, 640, 3), np.uint8))
        for session in self._sessions:
            session(np.zeros((1, *session.artifact.input.shape), np.uint8))

    def __call__(self, frames: Sequence[Frame]) -> list[FrameAnalysis | Exception]:
        """Find the faces of the frames, of different sources, and predict their expressions. In the frames' order."""
        self._started = time.monotonic()
        try:
            searched = [self._find(frame) for frame in frames]
            predicted: dict[_Searched, tuple[Predictions | Exception, float]] = {}
            for session in self._sessions:  # the frames that want all strata, and those that want the collapsed ones
                together = [each for each in searched if isinstance(each, _Searched) and each.session is session]
                lap = stopwatch()
                predictions = _predict(session, together) if together else []
                infer = lap()
                predicted |= {each: (one, infer) for each, one in zip(together, predictions, strict=True)}
            return [_finish(each, *predicted[each]) if isinstance(each, _Searched) else each for each in searched]
        finally:
            self._started = math.inf

    @property
    def half_life(self) -> float:
        """Seconds after which a prediction counts half. 0: no smoothing. Any thread may change it."""
        return self._half_life

    @half_life.setter
    def half_life(self, seconds: float) -> None:
        self._half_life = seconds
        for pipeline in list(self._pipelines.values()):
            pipeline.half_life = seconds

    @property
    def stuck(self) -> bool:
        """Whether the current call has taken so long that it will probably never return. Any thread may ask."""
        return time.monotonic() - self._started > STUCK_AFTER

    def _pipeline_of(self, frame: Frame) -> FacePipeline:
        """The pipeline of the frame's source, which begins a new scene with each segment."""
        source = frame.source
        if source not in self._pipelines:
            self._pipelines[source] = self._make_pipeline(half_life=self._half_life)
        if frame.segment != self._segments.get(source, 0):
            self._segments[source] = frame.segment
            self._pipelines[source].reset()
        return self._pipelines[source]

    def _find(self, frame: Frame) -> _Searched | Exception:
        """Find the faces of one frame. Whatever fails is returned, since the other frames continue."""
        try:
            pipeline = self._pipeline_of(frame)
            found = pipeline.find(frame.image, frame.time, frame.photograph)
            return _Searched(frame, pipeline, found, pipeline.session_for(found))
        except Exception as error:
            return error


@dataclass(frozen=True, eq=False)
class _Searched:
    """A frame with the faces that were found in it, and the session that shall predict their expressions."""

    frame: Frame
    pipeline: FacePipeline
    found: FoundFaces
    session: Session


def _predict(session: Session, searched: Sequence[_Searched]) -> list[Predictions | Exception]:
    """Run the model on the faces of all frames together. If that fails, run it on each frame's alone.

    A server that does not answer is not asked for each frame again: that could take a timeout each.
    """
    crops = [each.found.crops for each in searched]
    try:
        predictions = session(crops[0] if len(crops) == 1 else np.concatenate(crops))
    except Exception as error:
        if len(searched) == 1 or isinstance(error, ServerLostError):
            return [error] * len(searched)
        return [_predict(session, [each])[0] for each in searched]
    return list(split(predictions, [len(each) for each in crops]))


def _finish(searched: _Searched, predictions: Predictions | Exception, infer: float) -> FrameAnalysis | Exception:
    """Combine one frame's faces with their predictions. `infer` is the milliseconds that those took."""
    if isinstance(predictions, Exception):
        return predictions
    frame, found, lap = searched.frame, searched.found, stopwatch()
    try:
        complete = searched.pipeline.complete(found, predictions, searched.session)
        faces = searched.pipeline.finish(found, complete)
    except Exception as error:
        return error
    latency = Latency(found.detect, found.preprocess, infer + lap(), 1000 * (time.monotonic() - frame.captured))
    return FrameAnalysis(frame, faces, latency)


class AnalysisFailures:
    """Counts the frames whose analysis failed. The first failure of each kind is printed."""

    def __init__(self, stats: LoopStats, live: bool = False) -> None:
        """A `live` source outlasts a model's server that does not answer, as it outlasts a camera that is lost."""
        self._stats = stats
        self._live = live
        self._in_a_row = 0
        self._printed: set[str] = set()

    def end_row(self) -> None:
        """Count from 0 again, because a frame was analyzed."""
        self._in_a_row = 0

    def add(self, frame: Frame, error: Exception) -> None:
        """Count a failed frame. Raises SessionError with the cause after MAX_FAILURES_IN_A_ROW."""
        self._stats.add_failed(frame.source)
        self._in_a_row += not (self._live and isinstance(error, ServerLostError))
        if self._in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise self.too_many(error) from error
        kind = type(error).__name__
        if kind not in self._printed:
            self._printed.add(kind)
            print(f"note: frame {frame.index} of {frame.source or frame.name} failed: {_cause(error)}", flush=True)

    def too_many(self, error: Exception) -> SessionError:
        """Return the error to raise if no later frame is likely to succeed."""
        frames = counted(self._in_a_row, "frame")
        return SessionError(
            f"{frames} in a row failed; the last error: {_cause(error)}; "
            "python -m iern.runtime.doctor checks whether the detector and the model run here"
        )


def analyzed_frames(
    batches: Iterable[Sequence[Frame]],
    analyze: Callable[[Sequence[Frame]], list[FrameAnalysis | Exception]],
    failures: AnalysisFailures,
) -> Iterator[FrameAnalysis]:
    """Analyze the batches in order, and leave out the frames that fail.

    Raises SessionError if MAX_FAILURES_IN_A_ROW frames in a row fail, or if every frame fails.
    """
    any_succeeded, last_error = False, None
    for frames in batches:
        for frame, analysis in zip(frames, analyze(frames), strict=True):
            if isinstance(analysis, Exception):  # whatever it is, the next frame may succeed
                last_error = analysis
                failures.add(frame, analysis)
                continue
            failures.end_row()
            any_succeeded = True
            yield analysis
    if last_error is not None and not any_succeeded:
        raise failures.too_many(last_error) from last_error


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, IernError) else f"{type(error).__name__}: {one_line(error)}"
