"""Where the answers go besides a window: opening what was asked for, a still picture, and words for single images.

Each output is a context manager that yields a sink, a function called with every view. `file_outputs` opens those
that the options ask for, each behind a thread and a queue of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from iern.runtime.background import Background, in_background
from iern.runtime.errors import OutputError
from iern.runtime.files import atomic_path
from iern.runtime.mqtt import mqtt_records
from iern.runtime.options import Options
from iern.runtime.recording import recording
from iern.runtime.records import csv_lines, json_lines
from iern.runtime.results import UNCERTAIN
from iern.runtime.sources import Source
from iern.runtime.summary import summary
from iern.runtime.view import Sink, View

__all__ = ["csv_lines", "file_outputs", "json_lines", "print_answers", "recorded", "recording", "still"]


@contextlib.contextmanager
def file_outputs(options: Options, source: Source, expressions: Sequence[str]) -> Iterator[list[Background]]:
    """The sinks of all that is to be written or sent but the recording; none makes a live source's loop wait.

    One that ended before the loop has a `failure`. Raises OutputError and OSError where one cannot begin.
    """
    live = source.live
    with contextlib.ExitStack() as outputs, contextlib.ExitStack() as threads:  # all threads end before any output
        opened: list[Background] = []

        def add(output: contextlib.AbstractContextManager[Sink], what: object, pictures: bool = False) -> None:
            sink = outputs.enter_context(output)
            opened.append(threads.enter_context(in_background(sink, str(what), live, pictures)))

        if options.jsonl:
            add(json_lines(options.jsonl), options.jsonl)
        if options.csv:
            add(csv_lines(options.csv, expressions), options.csv)
        if options.mqtt:
            add(mqtt_records(options.mqtt), options.mqtt)
        if options.summary:
            add(summary(options.summary), options.summary)
        if options.still:
            add(still(options.still), options.still, pictures=True)
        yield opened


@contextlib.contextmanager
def recorded(path: Path, source: Source) -> Iterator[Background]:
    """A recording of the source's views from now until the block ends, in the background."""
    with (
        recording(path, 0.0 if source.live else source.fps) as sink,
        in_background(sink, str(path), source.live, pictures=True) as output,
    ):
        yield output


def print_answers(view: View) -> None:
    """The sink for single images: a line with the name, and of each face expression and probability, or `uncertain`."""
    answers = ", ".join(
        UNCERTAIN if face.uncertain else f"{face.expression} {face.probability:.2f}" for face in view.faces
    )
    print(f"{view.frame.name}: {answers or 'no face'}", flush=True)


@contextlib.contextmanager
def still(path: Path) -> Iterator[Sink]:
    """A picture of the frame with the most faces, the last one of several such."""
    best: View | None = None

    def consider(view: View) -> None:
        nonlocal best
        if best is None or len(view.faces) >= len(best.faces):
            best = view

    yield consider
    if best is not None:
        encoded, data = cv2.imencode(path.suffix, best.annotated)
        if not encoded:
            raise OutputError(f"{path}: OpenCV cannot encode a picture of {best.annotated.shape}; try .png")
        with atomic_path(path) as temporary:
            temporary.write_bytes(data.tobytes())
