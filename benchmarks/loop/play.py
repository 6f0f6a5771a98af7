"""Plays a clip to all contestants in turns of one second, so that other load on the machine slows all alike."""

from __future__ import annotations

import contextlib
import itertools
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.loop.clips import FPS, Clip
from benchmarks.loop.contestant import Answer, Contestant, Running
from iern.runtime.imaging.images import Image
from iern.runtime.power.energy import Reading, joules_between
from iern.runtime.power.sensors import EnergyCounter

WARM_FRAMES = 3
"""Frames at the start of a turn that are not kept: they fill the caches again."""


@dataclass(frozen=True)
class Second:
    """What one second of video cost a contestant."""

    answers: list[Answer]
    cpu_seconds: float
    joules: dict[str, float] = field(default_factory=dict)
    """By counter: of the whole part of the machine that it measures."""


def play(
    clip: Clip,
    contestants: Sequence[Contestant],
    seconds: int,
    report: Callable[[str], None] = lambda line: None,
    counters: Sequence[EnergyCounter] = (),
) -> list[dict[str, Any]]:
    """Play `seconds` of the clip to each contestant -> what each of them took, in plain types. Raises IernError.

    A contestant gets its next frame when it has answered the last one. In each round all contestants get one second,
    in a random order.
    """
    with contextlib.ExitStack() as stack:
        running = {}
        for contestant in contestants:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loop-")))
            running[contestant.name] = stack.enter_context(Running(contestant, clip.size, folder))
            running[contestant.name](clip.frames[0])  # libraries load, and the first call allocates
            report(f"{clip.name}: {contestant.name} has started")
        frames = {name: itertools.islice(clip.forever(), 1, None) for name in running}
        played: dict[str, list[Second]] = {name: [] for name in running}
        order = random.Random(0)
        for done in range(seconds):
            for name in order.sample(list(running), len(running)):
                played[name].append(one_second(running[name], frames[name], counters))
            report(f"{clip.name}: {done + 1} of {seconds} s; {_medians(played)}")
    return [{"name": name, **_plain(rounds)} for name, rounds in played.items()]


def one_second(running: Running, frames: Iterator[Image], counters: Sequence[EnergyCounter] = ()) -> Second:
    """Pass FPS frames, and WARM_FRAMES before them that are not kept."""
    for _ in range(WARM_FRAMES):
        running(next(frames))
    start, joules = running.cpu_seconds, since_now(counters)
    answers = [running(next(frames)) for _ in range(FPS)]
    return Second(answers, running.cpu_seconds - start, joules())


def since_now(counters: Sequence[EnergyCounter]) -> Callable[[], dict[str, float]]:
    """A function that returns the joules of each counter since now, without those that cannot be read."""

    def read() -> dict[str, float]:
        values = {}
        for counter in counters:
            with contextlib.suppress(OSError, ValueError):
                values[counter.name] = counter.read()
        return values

    before = read()

    def joules() -> dict[str, float]:
        after, passed = read(), {}
        for counter in counters:
            if counter.name in before and counter.name in after:
                readings = (Reading(0, values[counter.name], 0, 0) for values in (before, after))
                passed[counter.name] = joules_between(counter, *readings)
        return {name: value for name, value in passed.items() if value is not None}

    return joules


def _plain(rounds: Sequence[Second]) -> dict[str, Any]:
    """By round: milliseconds of each frame, the median of each stage, and processor seconds. Faces: the mean."""
    measured = [name for name in rounds[0].joules if all(name in second.joules for second in rounds)]
    names = [name for name in rounds[0].answers[0].stages if name not in ("total", "age")]
    return {
        "faces": statistics.mean(answer.faces for second in rounds for answer in second.answers),
        "total": [[round(answer.stages["total"], 3) for answer in second.answers] for second in rounds],
        "answer": [[round(answer.milliseconds, 3) for answer in second.answers] for second in rounds],
        "stages": {
            name: [round(statistics.median(answer.stages[name] for answer in second.answers), 3) for second in rounds]
            for name in names
        },
        "cpu_seconds": [round(second.cpu_seconds, 4) for second in rounds],
        "joules": {name: [round(second.joules[name], 3) for second in rounds] for name in measured},
    }


def _medians(played: dict[str, list[Second]]) -> str:
    """The last round in words: `ours 3.1 ms, rival 18.2 ms`."""
    return ", ".join(
        f"{name} {statistics.median(answer.stages['total'] for answer in rounds[-1].answers):.1f} ms"
        for name, rounds in played.items()
    )
