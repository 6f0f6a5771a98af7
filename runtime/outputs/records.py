"""Results as data: JSON lines and CSV, line by line as they come. docs/records.md describes every field."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from iern.runtime.faces.record import BOX_COLUMNS, FACE_COLUMNS, JsonRecord, face_record, row_of_face
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.system.append_only_file import AppendOnlyFile

SCHEMA = 4
"""Version of the JSON record. Within a version new keys may appear, but no key changes its meaning.

Version 1: every prediction is of its frame alone. Version 2: it may be smoothed over the face's track, and hysteresis
may keep an `expression` although another is slightly more probable. Version 3: `box` is the part of the face's box
that is in the frame. Before, it was the whole box. Version 4: without strata that can disagree, a face has no
`disagreement`. Before, it was 0.
"""

FRAME_COLUMNS = ("schema", "start", "frame", "time", "name", "segment")


def json_record(result: FrameResult) -> JsonRecord:
    """The JSON record of one frame: plain numbers and text. Boxes are in pixels, `time` is in seconds.

    Of a grid each face has its `source`, and its box is in the pixels of the grid.
    """
    frame = result.frame
    height, width = frame.image.shape[:2]
    faces = [face_record(face, (width, height)) for face in result.faces]
    if result.tiles:
        names = [name for tile in result.tiles for name in [tile.source] * tile.faces]
        faces = [{"source": name, **face} for name, face in zip(names, faces, strict=True)]
    return {
        "schema": SCHEMA,
        "frame": frame.index,
        "time": round(frame.time, 4),
        "name": frame.name,
        **({"source": frame.source} if frame.source else {}),
        "segment": frame.segment,
        "faces": faces,
        "latency_ms": {name: round(value, 3) for name, value in result.latency.stages().items()},
    }


def timed_records() -> Callable[[FrameResult], JsonRecord]:
    """A function from a result to its record with `start`: the wall-clock time at which its source's `time` was 0."""
    starts: dict[str, str] = {}

    def make_record(result: FrameResult) -> JsonRecord:
        source = result.frame.source
        if source not in starts:
            ago = time.monotonic() - result.frame.captured + result.frame.time
            moment = datetime.datetime.fromtimestamp(time.time() - ago, datetime.timezone.utc)
            starts[source] = moment.isoformat("T", "milliseconds")
        return json_record(result) | {"start": starts[source]}

    return make_record


def json_line(record: JsonRecord) -> bytes:
    """A record on one line of UTF-8. Bytes of a file name that are not valid text are written as escapes."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def json_lines(path: Path, interrupted: Callable[[], bool] = lambda: False) -> Iterator[Sink]:
    """A file with one record a frame. It ends with a whole line, even after SIGKILL or on a full disk.

    `path` and `interrupted`: see `AppendOnlyFile`. Raises OutputError and OSError.
    """
    make_record = timed_records()
    with contextlib.closing(AppendOnlyFile(path, interrupted)) as file:

        def write(result: FrameResult) -> None:
            file.append(json_line(make_record(result)) + b"\n")

        yield write


@contextlib.contextmanager
def csv_lines(
    path: Path, expressions: Sequence[str], interrupted: Callable[[], bool] = lambda: False
) -> Iterator[Sink]:
    """A file with one row a face. A frame without faces has one row with empty cells. The first row names the columns.

    `expressions` are the model's, in its order. Each has a column with its probability. `path` and `interrupted`: see
    `AppendOnlyFile`. Raises OutputError and OSError.
    """
    make_record = timed_records()
    with contextlib.closing(AppendOnlyFile(path, interrupted)) as file:

        def write(result: FrameResult) -> None:
            record = make_record(result)
            latencies = [f"{stage}_ms" for stage in record["latency_ms"]]
            of_face = ["face", *BOX_COLUMNS, *FACE_COLUMNS, *(f"p_{name}" for name in expressions)]
            text = io.StringIO()
            table = csv.DictWriter(text, [*_frame_columns(record), "faces", *latencies, *of_face], lineterminator="\n")
            if not file.size:
                table.writeheader()
            table.writerows(_rows(record))
            file.append(text.getvalue().encode("utf-8", "backslashreplace"))

        yield write


def _frame_columns(record: JsonRecord) -> Sequence[str]:
    """The columns of a frame. With several sources `source` is among them."""
    return [*FRAME_COLUMNS, "source"] if "source" in record else FRAME_COLUMNS


def _rows(record: JsonRecord) -> Iterator[JsonRecord]:
    """The rows of a record, each as column -> cell. A row without a face has no cells of a face."""
    frame = {name: record[name] for name in _frame_columns(record)} | {"faces": len(record["faces"])}
    frame |= {f"{stage}_ms": value for stage, value in record["latency_ms"].items()}
    if not record["faces"]:
        yield frame
    for index, face in enumerate(record["faces"]):
        yield frame | row_of_face(index, face) | {"uncertain": int(face["uncertain"])}
