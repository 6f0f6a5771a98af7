"""The latency of the loop's stages, for each frame and over a run."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KEPT_FRAMES = 100_000
"""Frames whose latencies are kept for the percentiles: about an hour of video, so that memory stays bounded."""

RATE_FRAMES = 30
"""Frames over which the current rate is measured."""


@dataclass(frozen=True)
class Latency:
    """The milliseconds that one frame spent in each stage of the loop."""

    detect: float
    preprocess: float
    infer: float
    age: float
    """From the frame's capture to its predictions: `total` plus the wait before it."""

    @property
    def total(self) -> float:
        """The time to analyze the frame, without waiting."""
        return self.detect + self.preprocess + self.infer

    def stages(self) -> dict[str, float]:
        """Stage -> milliseconds, in the order of the loop."""
        return {
            "detect": self.detect,
            "preprocess": self.preprocess,
            "infer": self.infer,
            "total": self.total,
            "age": self.age,
        }


def stopwatch() -> Callable[[], float]:
    """Return a function that returns the milliseconds since its last call, at first since now."""
    last = time.perf_counter()

    def lap() -> float:
        nonlocal last
        before, last = last, time.perf_counter()
        return 1000 * (last - before)

    return lap


def counted(number: int, noun: str) -> str:
    """`1 face`, `2 faces`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class FrameCounts:
    """Counts frames and faces."""

    def __init__(self) -> None:
        self.frames = 0
        self.faces = 0
        self.dropped = 0
        """Frames of a live source that came while the loop was busy."""
        self.failed = 0
        """Frames whose analysis failed."""
        self._recent: deque[float] = deque(maxlen=RATE_FRAMES)
        self._first = self._last = 0.0

    def count(self, latency: Latency, faces: int) -> None:
        """Count an analyzed frame."""
        self._last = time.perf_counter()
        if not self.frames:
            self._first = self._last - latency.total / 1000
        self.frames += 1
        self.faces += faces
        self._recent.append(self._last)

    @property
    def rate(self) -> float:
        """Frames per second over the last RATE_FRAMES. 0 before the second frame."""
        seconds = self._recent[-1] - self._recent[0] if self._recent else 0.0
        return (len(self._recent) - 1) / seconds if seconds > 0 else 0.0

    def text(self) -> str:
        """The counts in words."""
        parts = [counted(self.frames, "frame"), counted(self.faces, "face"), f"{self.mean_rate:.1f} frames/s"]
        parts += [f"{self.dropped} dropped"] if self.dropped else []
        return ", ".join(parts + ([f"{self.failed} failed"] if self.failed else []))

    @property
    def mean_rate(self) -> float:
        """Frames per second from the first frame to the last."""
        return self.frames / max(self._last - self._first, 1e-9)


class LoopStats(FrameCounts):
    """Counts frames and faces, of all sources together and of each, and keeps latencies."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, FrameCounts] = {}
        """The counts of each of several sources, by its name."""
        self._stages = _LastRows(len(Latency(0, 0, 0, 0).stages()) + 1)
        self._ages = _LastRows(1)

    def of(self, source: str) -> FrameCounts:
        """The counts of one of several sources. These ones if the name is empty: there is only one then."""
        return self.sources.setdefault(source, FrameCounts()) if source else self

    def add(self, latency: Latency, faces: int, source: str = "") -> None:
        """Count an analyzed frame, of the source of that name."""
        self.count(latency, faces)
        if source:
            self.of(source).count(latency, faces)
        self._stages.add(*latency.stages().values(), faces)

    def add_failed(self, source: str = "") -> None:
        """Count a frame whose analysis failed."""
        self.failed += 1
        if source:
            self.of(source).failed += 1

    def set_dropped(self, dropped: int, source: str = "") -> None:
        """Keep how many frames of that source were dropped until now."""
        self.of(source).dropped = dropped
        if source:
            self.dropped = sum(counts.dropped for counts in self.sources.values())

    def add_age(self, age: float) -> None:
        """Count a frame that every output has received, `age` milliseconds after its capture."""
        self._ages.add(age)

    @property
    def age(self) -> float:
        """Milliseconds from the capture of the last frame until every output had it. 0 before the first."""
        return self._ages.last(0) if self._ages.count else 0.0

    def summary(self, provider: str, live: bool) -> list[str]:
        """Lines to print: counts and rate, then the percentiles of each stage.

        `preprocess` and `infer` count the frames that show a face. `age` (at the predictions) and `shown` (at the
        outputs) are for `live` sources only: the age of a file's frame means nothing.
        """
        if not self.frames:
            return ["no frames"]
        frames, faces = counted(self.frames, "frame"), counted(self.faces, "face")
        lines = [
            f"{frames}, {faces}, {self.mean_rate:.1f} frames/s, {provider}",
            *(f"  {name}: {counts.text()}" for name, counts in self.sources.items()),
            f"{'latency, ms':<12}{'p50':>8}{'p90':>8}{'p99':>8}",
        ]
        rows = self._stages.rows()
        for column, name in enumerate(Latency(0, 0, 0, 0).stages()):
            if name == "age" and not live:
                continue
            counting = rows[rows[:, -1] > 0] if name in ("preprocess", "infer") else rows
            lines.append(_row(name, counting[:, column]))
        if live and self._ages.count:
            lines.append(_row("shown", self._ages.rows()[:, 0]))
        return lines


class _LastRows:
    """The last KEPT_FRAMES rows of numbers. All memory is allocated at the start, so that the loop's does not grow."""

    def __init__(self, columns: int) -> None:
        self.count = 0
        self._rows = np.full((KEPT_FRAMES, columns), np.nan, np.float32)

    def add(self, *row: float) -> None:
        self._rows[self.count % len(self._rows)] = row
        self.count += 1

    def last(self, column: int) -> float:
        return float(self._rows[(self.count - 1) % len(self._rows), column])

    def rows(self) -> NDArray[np.float32]:
        """(rows, columns), in no particular order."""
        return self._rows[: self.count]


def _row(name: str, values: NDArray[np.float32]) -> str:
    figures = np.percentile(values, (50, 90, 99)) if len(values) else ()
    return f"{name:<12}" + ("".join(f"{v:8.1f}" for v in figures) or f"{'no face':>8}")
