"""Records: Python's own readers find the same in JSON lines and CSV, and every line is whole."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import json
import time
from pathlib import Path

import numpy as np
import pytest

from doubles.made_up_results import grey_result
from iern.runtime.faces.face import Face
from iern.runtime.faces.record import BOX_COLUMNS, FACE_COLUMNS
from iern.runtime.imaging.detection import Detection
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.queued_sink import queued_sink
from iern.runtime.outputs.records import FRAME_COLUMNS, SCHEMA, csv_lines, json_lines
from iern.runtime.sources.base import Frame
from iern.runtime.system.latency import Latency
from repository import ROOT

EXPRESSIONS = ("fröhlich", 'so, "so"')


def two_faces(name: str = "clip.mp4") -> FrameResult:
    """Two faces, one of them uncertain, in a frame of 2.5 s."""
    faces = [
        Face(Detection(-1.25, 2, 30.5, 40, np.zeros((5, 2)), 0.75), dict(zip(EXPRESSIONS, p, strict=True)), 0.125, u)
        for p, u in (((0.25, 0.75), False), ((0.5, 0.5), True))
    ]
    return FrameResult(
        Frame(np.zeros((8, 8, 3), np.uint8), 2.5, 7, name, time.monotonic()), faces, Latency(1, 2, 3, 9), ""
    )


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_csv_read_by_python_has_what_the_json_lines_have(tmp_path):
    names = ["clip.mp4", 'a, "b"\nc.mp4', "Straße.mp4"]
    with json_lines(tmp_path / "out.jsonl") as one, csv_lines(tmp_path / "out.csv", EXPRESSIONS) as other:
        for name in names:
            one(two_faces(name))
            other(two_faces(name))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    table = rows(tmp_path / "out.csv")
    assert [line["name"] for line in lines] == names
    assert len(table) == 2 * len(lines)
    for index, row in enumerate(table):
        line = lines[index // 2]
        face = line["faces"][index % 2]
        assert int(row["face"]) == index % 2
        assert int(row["faces"]) == 2
        assert [row[name] for name in FRAME_COLUMNS if name != "start"] == [
            str(line[name]) for name in FRAME_COLUMNS if name != "start"
        ]
        assert [float(row[name]) for name in BOX_COLUMNS] == face["box"]
        assert row["expression"] == face["expression"]
        assert row["track"] == ""
        assert row["uncertain"] == str(int(face["uncertain"]))
        assert [float(row[f"p_{name}"]) for name in EXPRESSIONS] == list(face["probabilities"].values())
        assert {name: float(row[f"{name}_ms"]) for name in line["latency_ms"]} == line["latency_ms"]


EDGES = {
    "inside": ((0, 0, 8, 8), [0, 0, 8, 8], None),
    "over all edges": ((-1.25, -2, 30.5, 40), [0, 0, 8, 8], [-1.2, -2, 30.5, 40]),
    "over the right edge": ((5.04, 1, 4, 2), [5, 1, 3, 2], [5, 1, 4, 2]),
    "over the lower edge": ((1, 6.5, 2, 3), [1, 6.5, 2, 1.5], [1, 6.5, 2, 3]),
    "outside on the left": ((-9, 1, 4, 2), [0, 1, 0, 2], [-9, 1, 4, 2]),
    "outside below": ((1, 9, 4, 2), [1, 8, 4, 0], [1, 9, 4, 2]),
}
"""Place -> the detector's box, `box` and `whole_box` in a frame of 8 by 8 pixels."""


@pytest.mark.parametrize(("found", "box", "whole_box"), EDGES.values(), ids=EDGES)
def test_a_box_beyond_the_frame_is_clipped_in_all_records_and_the_whole_box_is_in_the_json(
    tmp_path, found, box, whole_box
):
    """The records pass through the queue of the loop, which takes the pictures out."""
    face = Face(Detection(*found, np.zeros((5, 2)), 0.75), dict.fromkeys(EXPRESSIONS, 0.5), 0.0)
    result = dataclasses.replace(two_faces(), faces=[face])
    with (
        json_lines(tmp_path / "out.jsonl") as one,
        csv_lines(tmp_path / "out.csv", EXPRESSIONS) as other,
        queued_sink(one, "out.jsonl", live=False) as queued_one,
        queued_sink(other, "out.csv", live=False) as queued_other,
    ):
        queued_one(result)
        queued_other(result)
    (written,) = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["faces"]
    (row,) = rows(tmp_path / "out.csv")
    assert written["box"] == [float(row[name]) for name in BOX_COLUMNS] == box
    assert written.get("whole_box") == whole_box
    assert face.detection.x == found[0]


def test_without_strata_the_json_has_no_disagreement_and_the_cell_is_empty(tmp_path):
    result = two_faces()
    faces = [dataclasses.replace(result.faces[0], disagreement=None), result.faces[1]]
    with json_lines(tmp_path / "out.jsonl") as one, csv_lines(tmp_path / "out.csv", EXPRESSIONS) as other:
        for write in (one, other):
            write(dataclasses.replace(result, faces=faces))
    first, second = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["faces"]
    assert "disagreement" not in first and second["disagreement"] == 0.125
    assert [row["disagreement"] for row in rows(tmp_path / "out.csv")] == ["", "0.125"]


def test_a_frame_without_faces_has_a_row_with_empty_cells(tmp_path):
    with csv_lines(tmp_path / "out.csv", ("happy", "sad")) as write:
        write(grey_result(4))
        write(grey_result(5, faces=1))
    first, second = rows(tmp_path / "out.csv")
    assert (first["frame"], first["faces"], first["expression"], first["p_sad"]) == ("4", "0", "", "")
    assert (second["faces"], second["expression"], second["p_sad"]) == ("1", "happy", "0.25")
    assert list(first) == list(second)


def test_a_track_is_written_if_faces_have_one(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Tracked(Face):
        track: int | None = 12

    result = grey_result(1)
    faces = [Tracked(Detection(0, 0, 1, 1, np.zeros((5, 2)), 1), {"happy": 1.0}, 0.0)]
    with json_lines(tmp_path / "out.jsonl") as one, csv_lines(tmp_path / "out.csv", ("happy",)) as other:
        for write in (one, other):
            write(dataclasses.replace(result, faces=faces))
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["faces"][0]["track"] == 12
    assert rows(tmp_path / "out.csv")[0]["track"] == "12"


def test_start_is_the_wall_clock_at_which_time_was_0_and_the_same_in_all_records(tmp_path):
    before = datetime.datetime.now(datetime.timezone.utc)
    with json_lines(tmp_path / "out.jsonl") as write:
        write(two_faces())
        write(two_faces())
    first, second = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    start = datetime.datetime.fromisoformat(first["start"])
    assert start.tzinfo is not None
    assert abs((before - datetime.timedelta(seconds=2.5) - start).total_seconds()) < 2
    assert first["start"] == second["start"]
    assert first["schema"] == SCHEMA


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_every_line_is_in_the_file_when_it_is_written(tmp_path, kind):
    """A killed process leaves what is in the file at that moment."""
    path = tmp_path / f"out.{kind}"
    with json_lines(path) if kind == "jsonl" else csv_lines(path, ("happy", "sad")) as write:
        for index in range(5):
            write(grey_result(index))
            lines = path.read_bytes().split(b"\n")
            assert lines.pop() == b""
            assert len(lines) == index + 1 + (kind == "csv")


def test_a_name_that_is_not_valid_text_is_written_too(tmp_path):
    with json_lines(tmp_path / "out.jsonl") as one, csv_lines(tmp_path / "out.csv", EXPRESSIONS) as other:
        one(two_faces("caf\udce9.png"))
        other(two_faces("caf\udce9.png"))
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["name"] == "caf\udce9.png"
    assert rows(tmp_path / "out.csv")[0]["name"] == r"caf\udce9.png"


def test_the_page_about_records_names_every_field_and_column(tmp_path):
    page = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    with json_lines(tmp_path / "out.jsonl") as write:
        write(two_faces())
    record = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    fields = {*record, *record["faces"][0], *record["latency_ms"], *FRAME_COLUMNS, *FACE_COLUMNS, *BOX_COLUMNS}
    missing = {name for name in fields if f"`{name}`" not in page}
    assert not missing
    assert f"version {SCHEMA}" in page
