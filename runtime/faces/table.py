"""The faces of many pictures as one table, for pandas, a CSV file or a database."""

from __future__ import annotations

import os
from collections.abc import Sequence

from iern.runtime.errors import ArgumentError
from iern.runtime.faces.face import Face
from iern.runtime.faces.record import BOX_COLUMNS, FACE_COLUMNS, JsonRecord, row_of_face


def face_table(pictures: Sequence[object], faces_of_each: Sequence[Sequence[Face]]) -> list[JsonRecord]:
    """The pictures and the faces of each -> a row for each face, as column -> cell: `pandas.DataFrame(rows)`.

    The columns are those of `--csv` about a face (docs/records.md), with `name` and `faces`, the number of faces in
    the picture, before them. `name` is the path, text or number that `pictures` has, and the position of the picture
    if it has arrays or PIL images. A picture without a face has one row, whose cells about a face are None.
    Raises ArgumentError if the lists differ in length, or `faces_of_each` is not a list of faces for each picture.
    """
    if isinstance(pictures, (str, os.PathLike)):
        raise ArgumentError(f"found one picture, {pictures!s}; expected a list of them and a list of faces for each")
    if len(pictures) != len(faces_of_each):
        raise ArgumentError(
            f"found {len(pictures)} pictures and the faces of {len(faces_of_each)}; expected what "
            "recognizer(pictures) returned for the same list"
        )
    rows: list[JsonRecord] = []
    for position, (picture, of_picture) in enumerate(zip(pictures, faces_of_each, strict=True)):
        faces = checked_faces(of_picture)
        start = {"name": _name(picture, position), "faces": len(faces)}
        rows += [start | row_of_face(index, face.to_dict()) for index, face in enumerate(faces)]
        if not faces:
            rows.append(start | dict.fromkeys(("face", *BOX_COLUMNS, *FACE_COLUMNS)))
    return rows


def checked_faces(faces: Sequence[Face]) -> list[Face]:
    """The faces of one picture, as a list. Raises ArgumentError if it is anything else."""
    if isinstance(faces, (list, tuple)):
        wrong = [type(face).__name__ for face in faces if not isinstance(face, Face)]
        if not wrong:
            return list(faces)
    else:
        wrong = [f"one {type(faces).__name__}"]
    raise ArgumentError(
        f"found {wrong[0]} instead of the faces of a picture; expected a list, as recognizer(image) returns it. For a "
        "list of pictures, it returns one such list for each"
    )


def _name(picture: object, position: int) -> object:
    if isinstance(picture, (str, os.PathLike)):
        return os.fspath(picture)
    return picture if isinstance(picture, (int, float)) else position
