"""Records: JSON lines and CSV say the same, by Python's own readers, and are whole to the last line."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import json
import time
from pathlib import Path

import numpy as np
import pytest

from doubles.made_up_results import view
from iern.runtime.faces.face import Face
from iern.runtime.imaging.detection import Detection
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.records import BOX_COLUMNS, FACE_COLUMNS, FRAME_COLUMNS, SCHEMA, csv_lines, json_lines
from iern.runtime.sources.base import Frame
from iern.runtime.system.latency import Latency
from repository import ROOT

EXPRESSIONS = ("fröhlich", 'so, "so"')


def seen(name: str = "clip.mp4") -> FrameResult:
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


def test_csv_read_by_python_says_what_the_json_lines_say(tmp_path):
    names = ["clip.mp4", 'a, "b"\nc.mp4', "Straße.mp4"]
    with json_lines(tmp_path / "out.jsonl") as one, csv_lines(tmp_path / "out.csv", EXPRESSIONS) as other:
        for name in names:
            one(seen(name))
            other(seen(name))
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


def test_a_frame_without_faces_has_a_row_with_empty_cells(tmp_path):
    with csv_lines(tmp_path / "out.csv", ("happy", "sad")) as write:
        write(view(4))
        write(view(5, faces=1))
    first, second = rows(tmp_path / "out.csv")
    assert (first["frame"], first["faces"], first["expression"], first["p_sad"]) == ("4", "0", "", "")
    assert (second["faces"], second["expression"], second["p_sad"]) == ("1", "happy", "0.25")
    assert list(first) == list(second)


def test_a_track_is_written_where_faces_have_one(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Tracked(Face):
        track: int | None = 12

    each = view(1)
    faces = [Tracked(Detection(0, 0, 1, 1, np.zeros((5, 2)), 1), {"happy": 1.0}, 0.0)]
    with json_lines(tmp_path / "out.jsonl") as one, csv_lines(tmp_path / "out.csv", ("happy",)) as other:
        for write in (one, other):
            write(dataclasses.replace(each, faces=faces))
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["faces"][0]["track"] == 12
    assert rows(tmp_path / "out.csv")[0]["track"] == "12"


def test_start_is_the_wall_clock_at_which_time_was_0_and_the_same_in_all_records(tmp_path):
    before = datetime.datetime.now(datetime.timezone.utc)
    with json_lines(tmp_path / "out.jsonl") as write:
        write(seen())
        write(seen())
    first, second = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    start = datetime.datetime.fromisoformat(first["start"])
    assert start.tzinfo is not None
    assert abs((before - datetime.timedelta(seconds=2.5) - start).total_seconds()) < 2
    assert first["start"] == second["start"]
    assert first["schema"] == SCHEMA


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_every_line_is_in_the_file_when_it_is_written(tmp_path, kind):
    """What a killed process leaves is what is there at that moment."""
    path = tmp_path / f"out.{kind}"
    with json_lines(path) if kind == "jsonl" else csv_lines(path, ("happy", "sad")) as write:
        for index in range(5):
            write(view(index))
            lines = path.read_bytes().split(b"\n")
            assert lines.pop() == b""
            assert len(lines) == index + 1 + (kind == "csv")


def test_a_name_that_is_no_text_is_written_all_the_same(tmp_path):
    with json_lines(tmp_path / "out.jsonl") as one, csv_lines(tmp_path / "out.csv", EXPRESSIONS) as other:
        one(seen("caf\udce9.png"))
        other(seen("caf\udce9.png"))
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["name"] == "caf\udce9.png"
    assert rows(tmp_path / "out.csv")[0]["name"] == r"caf\udce9.png"


def test_the_page_about_records_names_every_field_and_column(tmp_path):
    page = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    with json_lines(tmp_path / "out.jsonl") as write:
        write(seen())
    made = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    fields = {*made, *made["faces"][0], *made["latency_ms"], *FRAME_COLUMNS, *FACE_COLUMNS, *BOX_COLUMNS}
    missing = {name for name in fields if f"`{name}`" not in page}
    assert not missing
    assert f"version {SCHEMA}" in page
