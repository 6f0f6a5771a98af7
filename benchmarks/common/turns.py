"""Measurements of several things in turns, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Sample = TypeVar("Sample")

TURN = 4
"""Measured calls a turn."""


def elapsed(call: Callable[[], object]) -> float:
    """Milliseconds that a call takes."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def in_turns(
    named: Mapping[str, Callable[[], Sample]], repeats: int, tell: Callable[[int], None] = lambda done: None
) -> dict[str, list[Sample]]:
    """`repeats` samples of each, in the order measured.

    They take turns in an order drawn anew each round. A turn starts with a call that is not kept: it pays for the
    caches, and for the threads that the one before left spinning.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in named}
    order = random.Random(0)
    for done in range(0, repeats, TURN):
        for name in order.sample(list(named), len(named)):
            named[name]()
            samples[name] += [named[name]() for _ in range(min(TURN, repeats - done))]
        tell(min(done + TURN, repeats))
    return samples
