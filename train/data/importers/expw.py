"""ExpW (Zhang et al. 2018): whole pictures from the web, and a list of boxes with labels. The faces are cut out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2

from iern.runtime.errors import DataError
from iern.runtime.imaging.images import Image, read_image
from iern.train.data.importers.source import DataSet, LeftOut, SourceFace, find, lines, named
from iern.train.data.made_set import encoded
from iern.train.data.manifest import split_by_hash

TITLE = "ExpW"
LABELS = ("label/label.lst", "label.lst")
IMAGES = ("image/origin", "origin")
FIELDS = "image_name face_id top left right bottom confidence expression"
EXPRESSIONS = {0: "anger", 1: "disgust", 2: "fear", 3: "happiness", 4: "sadness", 5: "surprise", 6: "neutral"}
MARGIN = 1.3
"""Side of the crop over that of the box, so that the detector finds the face in it again."""
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)


def read(source: Path, left_out: LeftOut) -> Iterator[SourceFace]:
    """Each face of the list, cut out of its picture."""
    labels, images = find(source, LABELS, TITLE), find(source, IMAGES, TITLE)
    for name, rows in itertools.groupby(_checked(labels), key=lambda row: row[1][0]):
        path = images / name
        if not path.is_file():
            yield from (SourceFace(path, named(where, fields[7], EXPRESSIONS)) for where, fields in rows)
            continue
        picture = read_image(path)
        split = split_by_hash(name)
        for where, fields in rows:
            face = _cut(picture, *_box(where, fields))
            if face.size:
                place = Path("faces") / f"{path.stem}_{fields[1]}.jpg"
                expression = named(where, fields[7], EXPRESSIONS)
                yield SourceFace(place, expression, split, content=encoded(face, ".jpg", JPEG))
            else:
                left_out["box outside of the picture"] += 1


def _checked(labels: Path) -> Iterator[tuple[str, list[str]]]:
    """The lines of the list. Raises DataError if one has another number of fields."""
    for where, fields in lines(labels):
        if len(fields) != len(FIELDS.split()):
            raise DataError(f"{where}: expected `{FIELDS}`, found {fields}")
        yield where, fields


def _box(where: str, fields: list[str]) -> tuple[int, int, int, int]:
    """Top, left, right and bottom in pixels."""
    try:
        top, left, right, bottom = map(int, fields[2:6])
    except ValueError as error:
        raise DataError(f"{where}: expected a box in whole pixels, found {fields[2:6]}") from error
    return top, left, right, bottom


def _cut(picture: Image, top: int, left: int, right: int, bottom: int) -> Image:
    """(H, W, 3) picture and a box -> the square about the box with a margin, as far as the picture goes."""
    half = max(right - left, bottom - top) * MARGIN / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    rows = slice(max(0, round(y - half)), max(0, round(y + half)))
    columns = slice(max(0, round(x - half)), max(0, round(x + half)))
    return picture[rows, columns]


EXPW = DataSet(
    "expw",
    TITLE,
    f"label/label.lst with lines `{FIELDS}`\nimage/origin/angry_actor_104.jpg",
    "The faces are cut out with a margin and written as JPEG. A fifth of the pictures is the split test, by a hash of "
    "their names, since the data set has no splits.",
    read,
    writes=True,
)
