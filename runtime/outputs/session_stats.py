"""A session in sums: which expressions were seen for how long, whose, when, and how fast the loop was.

What it keeps does not grow with the session: the timeline merges its steps in pairs, latencies are counted by class,
and of very many tracks the later ones are told together.
"""

from __future__ import annotations

import datetime
import math
from collections import defaultdict
from dataclasses import dataclass, field

from iern.runtime.faces.face import UNCERTAIN, Face
from iern.runtime.outputs.frame_result import FrameResult

STEPS = 240
"""Steps of the timeline at most."""
FIRST_STEP = 0.5
"""Seconds of a step in the beginning; doubled when there are too many."""
LONGEST_SHARE = 1.0
"""Seconds that one frame counts for at most: across a loss nobody knows what was shown."""
TRACKS = 100
"""Tracks that are told one by one."""
CLASSES_PER_OCTAVE = 2
"""Latencies are counted in classes, each sqrt(2) as wide as the one before."""

Seconds = dict[str, float]
"""By expression, or `uncertain`."""


@dataclass
class SessionStats:
    """What a session was, in sums."""

    start: str = ""
    source: str = ""
    expressions: tuple[str, ...] = ()
    """The model's, in its order; known from the first face on."""
    frames: int = 0
    faces: int = 0
    dropped: int = 0
    seconds: Seconds = field(default_factory=lambda: defaultdict(float))
    tracks: dict[str, Seconds] = field(default_factory=dict)
    step: float = FIRST_STEP
    timeline: dict[int, Seconds] = field(default_factory=dict)
    """By number of the step since the first frame."""
    latencies: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Frames by class; class k is from 2^(k/2) to 2^((k+1)/2) milliseconds."""

    elapsed: float = 0.0
    """Seconds that the frames stood for."""
    _last: float = 0.0

    def add(self, view: FrameResult) -> None:
        """One more frame. It counts for the time since the one before."""
        if not self.frames:
            self.start = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
            self.source = view.frame.name
            self._last = view.frame.time
        passed = min(max(view.frame.time - self._last, 0.0), LONGEST_SHARE)
        self._last = view.frame.time
        self.elapsed += passed
        self.frames += 1
        self.faces += len(view.faces)
        self.dropped = view.dropped
        self.latencies[latency_class(view.latency.total)] += 1
        for face in view.faces:
            self._add_face(face, passed)

    def _add_face(self, face: Face, passed: float) -> None:
        self.expressions = self.expressions or tuple(face.probabilities)
        what = UNCERTAIN if face.uncertain else face.expression
        self.seconds[what] += passed
        number = face.track
        track = "all faces" if number is None else f"face {number}"
        if track not in self.tracks and len(self.tracks) >= TRACKS:
            track = "later faces"
        self.tracks.setdefault(track, defaultdict(float))[what] += passed
        while self.elapsed / self.step >= STEPS:
            self._merge_steps()
        self.timeline.setdefault(int(self.elapsed / self.step), defaultdict(float))[what] += passed

    def _merge_steps(self) -> None:
        """Merge the steps of the timeline in pairs."""
        merged: dict[int, Seconds] = {}
        for number, seconds in self.timeline.items():
            for what, value in seconds.items():
                merged.setdefault(number // 2, defaultdict(float))[what] += value
        self.timeline, self.step = merged, 2 * self.step


def latency_class(milliseconds: float) -> int:
    """The class of a latency: sqrt(2) wide, from 2^(k/2) ms."""
    return math.floor(CLASSES_PER_OCTAVE * math.log2(max(milliseconds, 0.01)))


def class_start(number: int) -> float:
    """Where a class begins, in milliseconds."""
    return float(2 ** (number / CLASSES_PER_OCTAVE))
