"""The progress of a training run: a bar in a terminal, else lines, and TensorBoard's files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from torch.utils.tensorboard import SummaryWriter

from iern.runtime.system.files import write_errors

LINE_EVERY = 60.0
"""Seconds between progress lines if the output is a file or a pipe."""
BOARD_EVERY = 10.0
"""Seconds between points of TensorBoard inside an epoch, so that an epoch of hours has thousands of them at most."""

Advance = Callable[[int, Mapping[str, float]], None]
"""Takes the finished iterations of the epoch and the mean losses so far."""


class Progress:
    """Console and TensorBoard of the first process. The others print and write nothing."""

    def __init__(self, out: Path, active: bool) -> None:
        self.console = Console(quiet=not active, soft_wrap=True)
        self._folder = out / "tensorboard"
        with write_errors(self._folder):
            self.board = SummaryWriter(str(self._folder)) if active else None

    def print(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, highlight=False, markup=False)

    @contextmanager
    def count(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """Show how many of `total` are done. The caller calls the yielded function after each, from any thread."""
        self.print(f"{what}: {total:,}")
        with RichProgress(console=self.console, transient=True, disable=not self.console.is_terminal) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)

    @contextmanager
    def epoch(self, epoch: int, epochs: int, iterations: int, done: int) -> Iterator[Advance]:
        """Show one epoch, of which `done` iterations are finished. The caller calls the yielded function to advance."""
        columns = (
            TextColumn(f"epoch {epoch + 1}/{epochs}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        last, board = time.monotonic(), _WithinEpoch(done, epoch * iterations)
        with RichProgress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bar:
            task = bar.add_task("", total=iterations, completed=done, losses="")

            def advance(iteration: int, losses: Mapping[str, float]) -> None:
                nonlocal last
                text = _figures(losses)
                bar.update(task, completed=iteration, losses=text)
                if self.board is not None:
                    with write_errors(self._folder):
                        board.write(self.board, iteration, losses)
                if not self.console.is_terminal and time.monotonic() - last >= LINE_EVERY:
                    last = time.monotonic()
                    self.print(f"epoch {epoch + 1}/{epochs}  {iteration}/{iterations}  {text}")

            yield advance

    def report(self, entry: Mapping[str, Any], best: bool) -> None:
        """Print one line for a finished epoch, and write its figures for TensorBoard."""
        valid = {key: entry["valid"][key] for key in ("accuracy", "mean_recall", "ece") if key in entry["valid"]}
        scalars = {f"loss/{k}": v for k, v in entry["losses"].items()} | {f"valid/{k}": v for k, v in valid.items()}
        if "centre_distance" in entry:
            scalars["centres/distance to the context means"] = entry["centre_distance"]
        text = f"epoch {entry['epoch'] + 1}: {_figures(entry['losses'])}"
        text += f"  valid {_figures(valid)}" if valid else ""
        text += f"  centres {entry['centre_distance']:.3f}" if "centre_distance" in entry else ""
        self.print(text + ("  best so far" if best else ""))
        if self.board is not None:
            with write_errors(self._folder):
                for name, value in scalars.items():
                    self.board.add_scalar(name, value, entry["epoch"] + 1)
                self.board.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self.board is not None:
            with write_errors(self._folder):
                self.board.close()


class _WithinEpoch:
    """The points of one epoch: each is the mean of the losses since the point before it."""

    def __init__(self, done: int, before: int) -> None:
        """`done` iterations of the epoch, and `before` of earlier epochs, are finished."""
        self._iteration, self._before = done, before
        self._sums: dict[str, float] | None = None if done else {}
        self._last = -math.inf

    def write(self, board: SummaryWriter, iteration: int, losses: Mapping[str, float]) -> None:
        """Add a point if the last one is BOARD_EVERY seconds old. `losses` are means over the epoch so far."""
        if time.monotonic() - self._last < BOARD_EVERY or iteration == self._iteration:
            return
        sums = {name: mean * iteration for name, mean in losses.items()}
        if self._sums is not None:  # after a resume inside an epoch the first call only learns the sums
            for name, total in sums.items():
                mean = (total - self._sums.get(name, 0.0)) / (iteration - self._iteration)
                board.add_scalar(f"iteration/{name}", mean, self._before + iteration)
            board.flush()
        self._sums, self._iteration, self._last = sums, iteration, time.monotonic()


def _figures(values: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())
