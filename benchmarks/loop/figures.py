"""From what a run measured to its figures: percentiles, ratios in turns, and the goals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.common.results import Results

STAGES = {"detect": "detect", "preprocess": "crop", "infer": "model"}
"""Stage in a record -> its name on the page."""


@dataclass(frozen=True)
class Ratio:
    """How many times the cost of a contestant another one has: the median over the rounds, and their range."""

    median: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Goal:
    """A cost of the rival on a clip, over ours, that is aimed at."""

    clip: str
    what: str
    cost: Callable[[Results], list[float]]
    at_least: float


def p50(played: Results) -> list[float]:
    """Of each round, the median of the milliseconds to analyse a frame."""
    return [float(np.median(frames)) for frames in played["total"]]


def p95(played: Results) -> list[float]:
    """Of each round, the 95th percentile of the milliseconds to analyse a frame."""
    return [float(np.percentile(frames, 95)) for frames in played["total"]]


def cpu(played: Results) -> list[float]:
    """Processor seconds of each round, which is one second of video."""
    return played["cpu_seconds"]


GOALS = (
    Goal("demo", "the time of a frame (p50)", p50, 5.0),
    Goal("8 faces", "the time of a frame (p50)", p50, 3.0),
    Goal("demo", "the processor time", cpu, 5.0),
)


def ratio(of: Sequence[float], over: Sequence[float]) -> Ratio:
    """Costs of two contestants in the same rounds -> the ratio of each round, as a median with its range."""
    ratios = np.divide(of, over)
    return Ratio(float(np.median(ratios)), float(ratios.min()), float(ratios.max()))


def find(clip: Results, name: str) -> Results | None:
    """What a contestant took on a clip; None if it did not take part."""
    return next((played for played in clip["contestants"] if played["name"] == name), None)


def checked_goals(results: Results, ours: str, rival: str) -> list[dict[str, Any]]:
    """Each goal whose clip was played to both contestants: what, on which clip, the ratio, and whether it is met."""
    clips = {clip["name"]: clip for clip in results["clips"]}
    checked = []
    for goal in GOALS:
        played = [find(clips[goal.clip], name) for name in (rival, ours)] if goal.clip in clips else [None]
        if None in played:
            continue
        found = ratio(*(goal.cost(each) for each in played if each is not None))
        checked.append(
            {
                "clip": goal.clip,
                "what": goal.what,
                "at_least": goal.at_least,
                "ratio": [found.median, found.lowest, found.highest],
                "met": found.median >= goal.at_least,
            }
        )
    return checked
