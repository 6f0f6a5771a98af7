"""The faces of many pictures as rows of a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from iern.runtime.errors import ArgumentError
from iern.runtime.faces.face import Face
from iern.runtime.faces.prediction import Prediction
from iern.runtime.faces.table import face_table
from iern.runtime.imaging.detection import Detection
from repository import ROOT


def face(x: float = 1.0, **others: object) -> Face:
    return Face(Detection(x, 2, 30.5, 40, np.zeros((5, 2)), 0.75), {"happy": 0.75, "sad": 0.25}, None, False, **others)


def test_each_face_is_a_row_and_a_picture_without_one_is_a_row_without_a_face():
    rows = face_table(["a.jpg", Path("folder/b.jpg"), "c.jpg"], [[face(), face(5.0, track=3)], [], [face()]])
    first = {
        "name": "a.jpg",
        "faces": 2,
        "face": 0,
        "x": 1.0,
        "y": 2,
        "width": 30.5,
        "height": 40,
        "track": None,
        "score": 0.75,
        "expression": "happy",
        "probability": 0.75,
        "uncertain": False,
        "disagreement": None,
        "p_happy": 0.75,
        "p_sad": 0.25,
    }
    assert rows[0] == first
    assert list(rows[0]) == list(first), "the columns of a data frame are in this order"
    assert rows[1] == first | {"face": 1, "x": 5.0, "track": 3}
    empty = dict.fromkeys(list(first)[:-2]) | {"name": str(Path("folder/b.jpg")), "faces": 0}
    assert rows[2] == empty
    assert rows[3] == first | {"name": "c.jpg", "faces": 1}


def test_the_columns_are_those_of_the_csv_about_a_face():
    text = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    (row,) = face_table(["a.jpg"], [[face()]])
    of_face = [name for name in row if name not in ("name", "faces", "face", "x", "y", "width", "height")]
    assert all(f"| `{name}` |" in text for name in of_face if not name.startswith("p_"))


def test_pictures_that_are_no_names_are_numbered_and_numbers_stay():
    rows = face_table([np.zeros((4, 4, 3), np.uint8), object(), 7.5, 3], [[face()]] * 4)
    assert [row["name"] for row in rows] == [0, 1, 7.5, 3]


def test_the_rows_go_through_pythons_own_csv():
    rows = face_table(["a.jpg", "b.jpg"], [[face()], []])
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    read = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert [(row["name"], row["expression"], row["p_sad"]) for row in read] == [
        ("a.jpg", "happy", "0.25"),
        ("b.jpg", "", ""),
    ]


def test_pandas_takes_the_rows_as_they_are():
    pandas = pytest.importorskip("pandas")
    rows = face_table(["a.jpg", "b.jpg", "c.jpg"], [[face()], [], [face()]])
    table = pandas.DataFrame(rows)
    assert list(table.columns) == list(rows[0])
    assert table.groupby("name")["faces"].first().to_dict() == {"a.jpg": 1, "b.jpg": 0, "c.jpg": 1}
    assert table.dropna(subset="expression")["p_happy"].tolist() == [0.75, 0.75]


REFUSED = {
    "one picture": ("a.jpg", [face()], "found one picture, a.jpg; expected a list"),
    "lengths": (["a.jpg", "b.jpg"], [[]], "found 2 pictures and the faces of 1"),
    "faces of one picture": (["a.jpg"], [face()], "found one Face instead of the faces of a picture"),
    "a list too deep": (["a.jpg"], [[[face()]]], "found list instead of the faces of a picture"),
    "predictions": (["a.jpg"], [[Prediction({"happy": 1.0}, None)]], "found Prediction instead of the faces"),
}


@pytest.mark.parametrize(("pictures", "faces", "message"), REFUSED.values(), ids=REFUSED)
def test_lists_that_do_not_fit_are_refused_with_what_is_expected(pictures, faces, message):
    with pytest.raises(ArgumentError, match=message):
        face_table(pictures, faces)
