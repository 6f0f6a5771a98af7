"""FER+ (Barsoum et al. 2016): the faces of FER2013 as numbers in a table, and ten votes for each in another."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from iern.runtime.errors import DataError
from iern.train.data.importers.source import DataSet, LeftOut, SourceFace, find
from iern.train.data.made_set import encoded

TITLE = "FER+"
FACES, VOTES = "fer2013.csv", "fer2013new.csv"
PLACES = (FACES, f"fer2013/{FACES}", "icml_face_data.csv")
SPLITS = {"Training": "train", "PublicTest": "valid", "PrivateTest": "test"}
EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
COLUMNS = (*EXPRESSIONS, "unknown", "NF")
"""What the annotators could vote for; NF: not a face."""
SIDE = 48
"""Pixels."""


def read(source: Path, left_out: LeftOut) -> Iterator[SourceFace]:
    """The faces with a clear majority of votes for an expression, as PNG."""
    faces, votes = (
        find(source, PLACES, TITLE),
        find(source, (VOTES, f"FERPlus/{VOTES}", f"FERPlus-master/{VOTES}"), TITLE),
    )
    pairs = itertools.zip_longest(_rows(faces, ("pixels", "Usage")), _rows(votes, ("Usage", "Image name", *COLUMNS)))
    for number, (face, vote) in enumerate(pairs):
        if face is None or vote is None or face[1]["Usage"] != vote[1]["Usage"]:
            raise DataError(
                f"{votes}: row {number + 1} is not of the face in that row of {faces.name}; expected both files of one "
                "length and in the order of their authors"
            )
        where, cells = vote
        counts, name = _counts(where, cells), Path(cells["Image name"]).name
        expression = _majority(counts) if name else "without a name, which are no faces"
        if expression in EXPRESSIONS:
            yield SourceFace(Path("faces") / name, expression, _split(*face), votes=counts, content=_png(*face))
        else:
            left_out[expression] += 1


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row of a table is, in words, and its cells by column. Raises DataError if a column is absent."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        absent = [name for name in columns if name not in header]
        if absent:
            raise DataError(f"{path}: has no column {', '.join(absent)}; found {', '.join(header)[:200] or 'nothing'}")
        for cells in reader:
            where = f"{path} line {reader.line_num}"
            if len(cells) != len(header):
                raise DataError(f"{where}: {len(cells)} fields, expected {len(header)}; download the file again")
            yield where, dict(zip(header, map(str.strip, cells), strict=True))


def _counts(where: str, cells: dict[str, str]) -> dict[str, int]:
    """The votes of a row."""
    try:
        return {name: int(cells[name]) for name in COLUMNS}
    except ValueError as error:
        raise DataError(f"{where}: expected whole numbers of votes ({error})") from error


def _majority(counts: dict[str, int]) -> str:
    """The answer with most votes, or why the face is left out."""
    most = max(counts.values())
    first = [name for name, count in counts.items() if count == most]
    if len(first) > 1:
        return "a tie of the votes"
    return {"NF": "voted not a face", "unknown": "voted unknown"}.get(first[0], first[0])


def _split(where: str, cells: dict[str, str]) -> str:
    if cells["Usage"] not in SPLITS:
        raise DataError(f"{where}: unknown Usage {cells['Usage']!r}; expected {', '.join(SPLITS)}")
    return SPLITS[cells["Usage"]]


def _png(where: str, cells: dict[str, str]) -> bytes:
    """2,304 grey values as text -> a PNG of 48 x 48 pixels."""
    try:
        values = np.array(cells["pixels"].split(), dtype=np.int64)
    except ValueError as error:
        raise DataError(f"{where}: expected grey values from 0 to 255 ({error}); download the file again") from error
    if len(values) != SIDE**2 or values.min() < 0 or values.max() > 255:
        raise DataError(f"{where}: expected {SIDE**2} grey values from 0 to 255, found {len(values)}")
    return encoded(values.astype(np.uint8).reshape(SIDE, SIDE), ".png", ())


FERPLUS = DataSet(
    "ferplus",
    TITLE,
    f"{FACES} of FER2013, with the columns emotion, pixels and Usage\n{VOTES} of FER+, in the same order",
    "The faces are written as PNG. The expression is that of most votes; ties are left out. The votes become columns, "
    "which training uses as soft targets. PublicTest becomes valid, PrivateTest test.",
    read,
    votes=COLUMNS,
    writes=True,
)
