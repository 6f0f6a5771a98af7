"""Measures several calls in turns, so that other load on the machine slows all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Measured = TypeVar("Measured")

CALLS_PER_TURN = 4
"""Measured calls in one turn."""


def elapsed(call: Callable[[], object]) -> float:
    """Call once and return the milliseconds it took."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def in_turns(
    calls: Mapping[str, Callable[[], Measured]], repeats: int, on_progress: Callable[[int], None] = lambda done: None
) -> dict[str, list[Measured]]:
    """Make each call `repeats` times and return what it returned, in the order measured.

    The calls take turns, in a random order for each round. A turn starts with a call that is not kept: it fills the
    caches, and waits for threads that the previous call left running. After each round `on_progress` gets the number
    of calls so far.
    """
    samples: dict[str, list[Measured]] = {name: [] for name in calls}
    order = random.Random(0)
    for done in range(0, repeats, CALLS_PER_TURN):
        for name in order.sample(list(calls), len(calls)):
            calls[name]()
            samples[name] += [calls[name]() for _ in range(min(CALLS_PER_TURN, repeats - done))]
        on_progress(min(done + CALLS_PER_TURN, repeats))
    return samples
