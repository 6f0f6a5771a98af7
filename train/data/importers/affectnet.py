"""AffectNet (Mollahosseini et al. 2017): the lists of 2017, or the later sets with a file for each label."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from iern.runtime.errors import DataError
from iern.train.data.importers.source import DataSet, LeftOut, SourceFace, find, named

TITLE = "AffectNet"
LISTS = "Manually_Annotated_file_lists"
IMAGES = "Manually_Annotated_Images"
SPLITS = {"train": "train", "val": "test", "training": "train", "validation": "test"}
"""Its name of a split -> ours. The labels of its test faces were never given out, so its validation faces are it."""
COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
    "valence", "arousal",
)  # fmt: skip
"""The columns of the lists. Some copies of validation.csv lack the line with their names."""
EXPRESSIONS = {
    0: "neutral",
    1: "happiness",
    2: "sadness",
    3: "surprise",
    4: "fear",
    5: "disgust",
    6: "anger",
    7: "contempt",
}
NO_EXPRESSIONS = {8: "labelled none", 9: "labelled uncertain", 10: "labelled no face"}


def read(source: Path, left_out: LeftOut) -> Iterator[SourceFace]:
    """The folder of either distribution -> its faces."""
    lists = (LISTS, f"Manually_Annotated/{LISTS}")
    if find(source, (*lists, "train_set/annotations"), TITLE).name == LISTS:
        return _of_lists(find(source, lists, TITLE), source, left_out)
    return _of_sets(source, left_out)


def _of_lists(lists: Path, source: Path, left_out: LeftOut) -> Iterator[SourceFace]:
    images = find(source, (IMAGES, f"Manually_Annotated/{IMAGES}"), TITLE)
    for split in ("training", "validation"):
        for where, path, code in _rows(find(lists, (f"{split}.csv",), TITLE)):
            yield from _face(where, images / path, code, split, left_out)


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Where a row of a list is, in words, its image, and its label."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        image, expression = 0, COLUMNS.index("expression")
        for row in reader:
            where = f"{path} line {reader.line_num}"
            if len(row) < len(COLUMNS):
                raise DataError(f"{where}: {len(row)} fields, expected {', '.join(COLUMNS)}; extract the list again")
            if row[0] == COLUMNS[0]:
                image, expression = row.index(COLUMNS[0]), row.index("expression")
            else:
                yield where, row[image], row[expression]


def _of_sets(source: Path, left_out: LeftOut) -> Iterator[SourceFace]:
    for split in ("train", "val"):
        images = find(source, (f"{split}_set/images",), TITLE)
        labels = find(source, (f"{split}_set/annotations",), TITLE)
        for path in sorted(images.glob("*.jpg"), key=lambda each: (len(each.name), each.name)):
            label = labels / f"{path.stem}_exp.npy"
            if label.is_file():
                yield from _face(str(label), path, _code(label), split, left_out)
            else:
                left_out["without a label"] += 1


def _code(path: Path) -> str:
    """The label in a NumPy file, which has it as text."""
    try:
        return str(np.load(path, allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: is not a NumPy file with one label ({error}); extract it again") from error


def _face(where: str, path: Path, code: str, split: str, left_out: LeftOut) -> Iterator[SourceFace]:
    expression = named(where, code, EXPRESSIONS | NO_EXPRESSIONS)
    if expression in NO_EXPRESSIONS.values():
        left_out[expression] += 1
    else:
        yield SourceFace(path, expression, SPLITS[split])


AFFECTNET = DataSet(
    "affectnet",
    TITLE,
    f"{LISTS}/training.csv, validation.csv and {IMAGES}/, or\n"
    "train_set/images/0.jpg, train_set/annotations/0_exp.npy, and val_set/ with the same",
    "Its validation faces become the split test, since the labels of its test faces are not public.",
    read,
)
