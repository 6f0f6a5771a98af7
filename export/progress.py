"""Progress bars for work that takes minutes. They appear on a terminal only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, TaskID, track

from iern.export.engine.plan_builder import OnStep


def track_faces(batches: list[NDArray[np.uint8]]) -> Iterable[NDArray[np.uint8]]:
    """The batches. A bar shows how many are taken."""
    console = Console(stderr=True)
    return track(batches, "parity with float64", console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def build_bars() -> Iterator[OnStep]:
    """Yield a function that a build calls at each step. Each phase has a bar until it ends."""
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
