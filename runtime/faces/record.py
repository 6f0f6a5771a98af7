"""One face as plain numbers and text: the part of every record that is about a face. docs/records.md has the fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from iern.runtime.faces.face import Face
    from iern.runtime.faces.prediction import Answer

JsonRecord: TypeAlias = dict[str, Any]

Size: TypeAlias = tuple[int, int]
"""Width and height of a frame, in pixels."""

BOX_COLUMNS = ("x", "y", "width", "height")
FACE_COLUMNS = ("track", "score", "expression", "probability", "uncertain", "disagreement")


def face_record(face: Face, frame: Size | None) -> JsonRecord:
    """The record of one face in a frame of that size. If the size is unknown, `box` is not clipped to the frame."""
    found = face.detection
    whole_box = [round(value, 1) for value in (found.x, found.y, found.width, found.height)]
    box = box_in_frame(face, frame)
    raw = {"raw_probabilities": _rounded(face.raw_probabilities or face.probabilities)}
    return {
        "track": face.track,
        "box": box,
        **({} if whole_box == box else {"whole_box": whole_box}),
        "score": round(found.score, 4),
        **prediction_record(face, raw),
    }


def prediction_record(answer: Answer, raw: JsonRecord | None = None) -> JsonRecord:
    """The model's answer for one face. `raw` is what comes after its probabilities."""
    return {
        "expression": answer.expression,
        "probability": round(answer.probability, 6),
        "uncertain": answer.uncertain,
        "probabilities": _rounded(answer.probabilities),
        **(raw or {}),
        **({} if answer.disagreement is None else {"disagreement": round(answer.disagreement, 6)}),
    }


def box_in_frame(face: Face, frame: Size | None) -> list[float]:
    """[x, y, width, height] of the face in tenths of a pixel: the part of it that is in a frame of that size.

    If the size is unknown, it is the whole box.
    """
    found = face.detection
    box = [round(value, 1) for value in (found.x, found.y, found.width, found.height)]
    return box if frame is None else _clipped(box, *frame)


def row_of_face(index: int, record: JsonRecord) -> JsonRecord:
    """The record of a face, the `index`-th of its frame, as a row of a table: column -> cell."""
    box = dict(zip(BOX_COLUMNS, record["box"], strict=True))
    probabilities = {f"p_{name}": value for name, value in record["probabilities"].items()}
    return {"face": index, **box, **{name: record.get(name) for name in FACE_COLUMNS}, **probabilities}


def _clipped(box: Sequence[float], frame_width: int, frame_height: int) -> list[float]:
    """Return the part of a box [x, y, width, height] in tenths of a pixel that is in the frame.

    Outside the frame, it is empty: its width or height is 0.
    """
    x, y, width, height = box
    left, right = (min(max(0.0, edge), float(frame_width)) for edge in (x, x + width))
    top, bottom = (min(max(0.0, edge), float(frame_height)) for edge in (y, y + height))
    return [left, top, round(right - left, 1), round(bottom - top, 1)]


def _rounded(probabilities: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in probabilities.items()}
