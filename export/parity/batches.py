"""Runs a thousand faces through a network in batches, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from iern.runtime.system.cpu_budget import cpu_budget

Result = TypeVar("Result")
Track = Callable[[list[NDArray[np.uint8]]], Iterable[NDArray[np.uint8]]]
"""Batches of faces -> the same batches. Shows progress as they are taken."""

FACES_PER_BATCH = 16


def in_batches(
    compute: Callable[[NDArray[np.uint8]], Result], faces: NDArray[np.uint8], track: Track = iter
) -> list[Result]:
    """The results of `compute` for (n, S, S, 3) faces in batches of up to FACES_PER_BATCH, in order.

    `compute` runs in several threads at once. `track` may wrap the batches to show progress.
    """
    batches = [faces[start : start + FACES_PER_BATCH] for start in range(0, len(faces), FACES_PER_BATCH)]
    with _one_thread_per_batch() as pool:
        results = pool.map(compute, batches)
        return [next(results) for _ in track(batches)]


@contextmanager
def _one_thread_per_batch() -> Iterator[ThreadPoolExecutor]:
    """Threads that each compute whole batches.

    By default, PyTorch divides each operation between threads. It then waits for the last thread hundreds of times per
    batch, which takes ten times as long on a busy machine.
    """
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(cpu_budget(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)
