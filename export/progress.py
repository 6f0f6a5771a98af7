"""Bars on a terminal for what takes minutes; nothing where stderr goes to a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, TaskID, track

from iern.export.engine.plan import OnStep


def track_faces(batches: list[NDArray[np.uint8]]) -> Iterable[NDArray[np.uint8]]:
    """The batches, with a bar."""
    console = Console(stderr=True)
    return track(
        batches, "half precision against float64", console=console, transient=True, disable=not console.is_terminal
    )


@contextmanager
def build_bars() -> Iterator[OnStep]:
    """What a build may call at each step: a bar for every phase that is under way, gone at its end."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bars: dict[str, TaskID] = {}

        def on_step(phase: str, done: int, of: int) -> None:
            if phase not in bars:
                bars[phase] = progress.add_task(phase[:60], total=of)
            progress.update(bars[phase], completed=done)
            if done >= of:
                progress.remove_task(bars.pop(phase))

        yield on_step
