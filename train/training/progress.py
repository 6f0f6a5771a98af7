"""What a training run shows: a bar where there is a terminal, lines where there is none, and TensorBoard's files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from torch.utils.tensorboard import SummaryWriter

LINE_EVERY = 60.0
"""Seconds between progress lines where the output is a file or a pipe."""

Advance = Callable[[int, Mapping[str, float]], None]


class Progress:
    """Console and TensorBoard of the first process; silent in the others."""

    def __init__(self, out: Path, active: bool) -> None:
        self.console = Console(quiet=not active, soft_wrap=True)
        self.board = SummaryWriter(str(out / "tensorboard")) if active else None

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False)

    @contextmanager
    def epoch(self, epoch: int, epochs: int, iterations: int, done: int) -> Iterator[Advance]:
        """A bar of one epoch's iterations; the yielded function takes those done and the mean losses so far."""
        columns = (
            TextColumn(f"epoch {epoch + 1}/{epochs}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        last = time.monotonic()
        with RichProgress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bar:
            task = bar.add_task("", total=iterations, completed=done, losses="")

            def advance(iteration: int, losses: Mapping[str, float]) -> None:
                nonlocal last
                text = _figures(losses)
                bar.update(task, completed=iteration, losses=text)
                if not self.console.is_terminal and time.monotonic() - last >= LINE_EVERY:
                    last = time.monotonic()
                    self.say(f"epoch {epoch + 1}/{epochs}  {iteration}/{iterations}  {text}")

            yield advance

    def report(self, entry: Mapping[str, Any], best: bool) -> None:
        """One line for a finished epoch, and its figures to TensorBoard."""
        valid = {key: entry["valid"][key] for key in ("accuracy", "mean_recall", "ece") if key in entry["valid"]}
        scalars = {f"loss/{k}": v for k, v in entry["losses"].items()} | {f"valid/{k}": v for k, v in valid.items()}
        if "centre_distance" in entry:
            scalars["centres/distance to the context means"] = entry["centre_distance"]
        text = f"epoch {entry['epoch'] + 1}: {_figures(entry['losses'])}"
        text += f"  valid {_figures(valid)}" if valid else ""
        text += f"  centres {entry['centre_distance']:.3f}" if "centre_distance" in entry else ""
        self.say(text + ("  best so far" if best else ""))
        if self.board is not None:
            for name, value in scalars.items():
                self.board.add_scalar(name, value, entry["epoch"] + 1)
            self.board.flush()

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def _figures(values: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())
