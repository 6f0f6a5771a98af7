"""Totals of a session: how long each expression was seen, on which face and when, and how fast the loop was.

The memory does not grow with the session: the timeline merges its steps in pairs, latencies are counted in bins, and
tracks beyond the first MOST_TRACKS are counted together.
"""

from __future__ import annotations

import datetime
import math
from collections import defaultdict
from dataclasses import dataclass, field

from iern.runtime.faces.face import UNCERTAIN, Face
from iern.runtime.outputs.frame_result import FrameResult

MOST_STEPS = 240
"""Steps that the timeline has at most."""
FIRST_STEP = 0.5
"""Seconds of a step at the beginning. The step doubles when there are too many steps."""
LONGEST_FRAME = 1.0
"""Seconds that one frame counts for at most. While a source is lost, nobody knows what it would have shown."""
MOST_TRACKS = 100
"""Tracks that are counted one by one. Later tracks are counted together."""
BINS_PER_OCTAVE = 2
"""Latencies are counted in bins, each sqrt(2) times as wide as the one before."""

Seconds = dict[str, float]
"""Expression, or `uncertain` -> seconds."""


@dataclass
class SessionStats:
    """The totals of a session until now."""

    start: str = ""
    source: str = ""
    expressions: tuple[str, ...] = ()
    """The model's, in its order. They are known from the first face on."""
    frames: int = 0
    faces: int = 0
    dropped: int = 0
    seconds: Seconds = field(default_factory=lambda: defaultdict(float))
    tracks: dict[str, Seconds] = field(default_factory=dict)
    step: float = FIRST_STEP
    timeline: dict[int, Seconds] = field(default_factory=dict)
    """Number of the step since the first frame -> seconds."""
    latencies: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Bin -> frames. Bin k is from 2^(k/2) to 2^((k+1)/2) milliseconds."""

    elapsed: float = 0.0
    """Seconds that all frames count for."""
    _last: float = 0.0

    def add(self, result: FrameResult) -> None:
        """Count one more frame, for the time since the one before."""
        if not self.frames:
            self.start = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
            self.source = result.frame.source or result.frame.name
            self._last = result.frame.time
        passed = min(max(result.frame.time - self._last, 0.0), LONGEST_FRAME)
        self._last = result.frame.time
        self.elapsed += passed
        self.frames += 1
        self.faces += len(result.faces)
        self.dropped = result.dropped
        self.latencies[latency_bin(result.latency.total)] += 1
        for face in result.faces:
            self._add_face(face, passed)

    def _add_face(self, face: Face, passed: float) -> None:
        self.expressions = self.expressions or tuple(face.probabilities)
        expression = UNCERTAIN if face.uncertain else face.expression
        self.seconds[expression] += passed
        track = "all faces" if face.track is None else f"face {face.track}"
        if track not in self.tracks and len(self.tracks) >= MOST_TRACKS:
            track = "later faces"
        self.tracks.setdefault(track, defaultdict(float))[expression] += passed
        while self.elapsed / self.step >= MOST_STEPS:
            self._merge_steps()
        self.timeline.setdefault(int(self.elapsed / self.step), defaultdict(float))[expression] += passed

    def _merge_steps(self) -> None:
        """Merge the steps of the timeline in pairs."""
        merged: dict[int, Seconds] = {}
        for number, seconds in self.timeline.items():
            for expression, value in seconds.items():
                merged.setdefault(number // 2, defaultdict(float))[expression] += value
        self.timeline, self.step = merged, 2 * self.step


def latency_bin(milliseconds: float) -> int:
    """The bin of a latency."""
    return math.floor(BINS_PER_OCTAVE * math.log2(max(milliseconds, 0.01)))


def bin_start(number: int) -> float:
    """The shortest latency of a bin, in milliseconds."""
    return float(2 ** (number / BINS_PER_OCTAVE))
