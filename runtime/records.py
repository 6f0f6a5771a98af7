"""The answers as data: JSON lines and CSV, line by line as they come. docs/records.md describes every field."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from iern.runtime.growing_file import GrowingFile
from iern.runtime.results import record
from iern.runtime.view import Sink, View

Record = dict[str, Any]

FRAME_COLUMNS = ("schema", "start", "frame", "time", "name", "segment")
FACE_COLUMNS = ("track", "score", "expression", "probability", "uncertain", "disagreement")
BOX_COLUMNS = ("x", "y", "width", "height")


def dated_records() -> Callable[[View], Record]:
    """A function from views to their records, with the wall clock's time at which the source's `time` was 0."""
    start = ""

    def make(view: View) -> Record:
        nonlocal start
        if not start:
            ago = time.monotonic() - view.frame.captured + view.frame.time
            start = datetime.datetime.fromtimestamp(time.time() - ago, datetime.timezone.utc).isoformat(
                "T", "milliseconds"
            )
        return record(view.frame, view.faces, view.latency) | {"start": start}

    return make


def json_line(made: Record) -> bytes:
    """A record on one line of UTF-8; a file name that is no text keeps its bytes as escapes."""
    return json.dumps(made, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def json_lines(path: Path) -> Iterator[Sink]:
    """A file with one record a frame. What a killed process or a full disk leaves ends with a whole line."""
    make = dated_records()
    with contextlib.closing(GrowingFile(path)) as file:

        def write(view: View) -> None:
            file.append(json_line(make(view)) + b"\n")

        yield write


@contextlib.contextmanager
def csv_lines(path: Path, expressions: Sequence[str]) -> Iterator[Sink]:
    """A file with one row a face, and one with empty cells for a frame without faces; the first row names the columns.

    `expressions` are the model's, in its order: each has a column with its probability.
    """
    make = dated_records()
    with contextlib.closing(GrowingFile(path)) as file:

        def write(view: View) -> None:
            made = make(view)
            latencies = [f"{stage}_ms" for stage in made["latency_ms"]]
            of_face = ["face", *BOX_COLUMNS, *FACE_COLUMNS, *(f"p_{name}" for name in expressions)]
            text = io.StringIO()
            table = csv.DictWriter(text, [*FRAME_COLUMNS, "faces", *latencies, *of_face], lineterminator="\n")
            if not file.size:
                table.writeheader()
            table.writerows(_rows(made))
            file.append(text.getvalue().encode("utf-8", "backslashreplace"))

        yield write


def _rows(made: Record) -> Iterator[Record]:
    """The cells of a record's rows by column; those of a face are absent where there is none."""
    frame = {name: made[name] for name in FRAME_COLUMNS} | {"faces": len(made["faces"])}
    frame |= {f"{stage}_ms": value for stage, value in made["latency_ms"].items()}
    if not made["faces"]:
        yield frame
    for index, face in enumerate(made["faces"]):
        box = dict(zip(BOX_COLUMNS, face["box"], strict=True))
        probabilities = {f"p_{name}": value for name, value in face["probabilities"].items()}
        of_face = {name: face[name] for name in FACE_COLUMNS} | {"uncertain": int(face["uncertain"])}
        yield {**frame, "face": index, **box, **of_face, **probabilities}
