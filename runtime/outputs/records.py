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
from typing import TYPE_CHECKING, Any

from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.system.append_only_file import AppendOnlyFile
from iern.runtime.system.latency import Latency

if TYPE_CHECKING:
    from iern.runtime.imaging.detection import Detection
    from iern.runtime.sources.base import Frame
from iern.runtime.faces.face import Face

SCHEMA = 2
"""Version of the JSON record; a reader of version 2 may meet new keys, never other meanings of old ones.

In version 1 every answer was of its frame alone. From 2 on it may be smoothed over the face's track, and `expression`
may be one that hysteresis keeps while another is likelier by a little.
."""


JsonRecord = dict[str, Any]

FRAME_COLUMNS = ("schema", "start", "frame", "time", "name", "segment")
FACE_COLUMNS = ("track", "score", "expression", "probability", "uncertain", "disagreement")
BOX_COLUMNS = ("x", "y", "width", "height")


def dated_records() -> Callable[[FrameResult], JsonRecord]:
    """A function from views to their records, with the wall clock's time at which the source's `time` was 0."""
    start = ""

    def make(view: FrameResult) -> JsonRecord:
        nonlocal start
        if not start:
            ago = time.monotonic() - view.frame.captured + view.frame.time
            start = datetime.datetime.fromtimestamp(time.time() - ago, datetime.timezone.utc).isoformat(
                "T", "milliseconds"
            )
        return record(view.frame, view.faces, view.latency) | {"start": start}

    return make


def json_line(made: JsonRecord) -> bytes:
    """A record on one line of UTF-8; a file name that is no text keeps its bytes as escapes."""
    return json.dumps(made, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def json_lines(path: Path) -> Iterator[Sink]:
    """A file with one record a frame. What a killed process or a full disk leaves ends with a whole line."""
    make = dated_records()
    with contextlib.closing(AppendOnlyFile(path)) as file:

        def write(view: FrameResult) -> None:
            file.append(json_line(make(view)) + b"\n")

        yield write


@contextlib.contextmanager
def csv_lines(path: Path, expressions: Sequence[str]) -> Iterator[Sink]:
    """A file with one row a face, and one with empty cells for a frame without faces; the first row names the columns.

    `expressions` are the model's, in its order: each has a column with its probability.
    """
    make = dated_records()
    with contextlib.closing(AppendOnlyFile(path)) as file:

        def write(view: FrameResult) -> None:
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


def _rows(made: JsonRecord) -> Iterator[JsonRecord]:
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


def record(frame: Frame, faces: Sequence[Face], latency: Latency) -> dict[str, Any]:
    """The JSON record of one frame: plain numbers and text. Box and landmarks in pixels, times as named."""
    return {
        "schema": SCHEMA,
        "frame": frame.index,
        "time": round(frame.time, 4),
        "name": frame.name,
        "segment": frame.segment,
        "faces": [
            {
                "track": face.track,
                "box": [round(v, 1) for v in (face.detection.x, face.detection.y, *_size(face.detection))],
                "score": round(face.detection.score, 4),
                "expression": face.expression,
                "probability": round(face.probability, 6),
                "uncertain": face.uncertain,
                "probabilities": _rounded(face.probabilities),
                "raw_probabilities": _rounded(face.raw_probabilities or face.probabilities),
                "disagreement": round(face.disagreement, 6),
            }
            for face in faces
        ],
        "latency_ms": {name: round(value, 3) for name, value in latency.stages().items()},
    }


def _rounded(probabilities: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in probabilities.items()}


def _size(detection: Detection) -> tuple[float, float]:
    return detection.width, detection.height
