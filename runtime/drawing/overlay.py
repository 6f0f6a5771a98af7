"""The overlay of a frame: boxes, expressions, probabilities as bars, and the status line of the loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from iern.runtime.drawing.lettering import (
    DARK,
    MIN_LINE_HEIGHT,
    WHITE,
    Colour,
    draw_text,
    line_height,
    text_width,
    wrap,
)
from iern.runtime.faces.face import UNCERTAIN, Face
from iern.runtime.imaging.images import Image

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels. Right and bottom are just outside the box."""

PALETTE: tuple[Colour, ...] = (
    (200, 200, 200),
    (60, 200, 250),
    (250, 160, 80),
    (210, 120, 250),
    (110, 210, 110),
    (90, 90, 250),
    (230, 210, 90),
    (120, 180, 220),
)
"""Blue, green, red. Expression i of the model has colour i everywhere."""


def draw(frame: Image, faces: Sequence[Face], status: str, strata: bool = False) -> Image:
    """(H, W, 3) BGR frame -> a copy with its faces and the status drawn. The frame itself is not changed.

    Three spaces separate the parts of the status, which is wrapped between them if it is too long. With `strata`, each
    expression has a bar for its probability and thinner bars for its probability under each stratum.
    """
    canvas = frame.copy()
    line = line_height(canvas)
    texts = [_draw_status(canvas, status, line)]
    boxes = [_box(face) for face in faces]
    labels = place_labels(canvas, faces, texts)
    for face, place in zip(faces, labels, strict=True):
        _draw_face(canvas, face, line, place)
    texts += labels
    for face in faces:
        boxes += _draw_bars(canvas, face, line, texts, boxes, strata, crowded=len(faces) > 1)
    return canvas


def place_labels(canvas: Image, faces: Sequence[Face], texts: Sequence[Box] = ()) -> list[Box]:
    """Return the box for the label of each face: in the frame, and off other texts and faces if there is room.

    Above the face is the first choice.
    """
    boxes = [_box(face) for face in faces]
    places: list[Box] = []
    for face, (left, top, right, bottom) in zip(faces, boxes, strict=True):
        line = _label_line(canvas, face)
        width, height, gap = text_width(_label(face), line) + 2, 3 * line // 2, max(2, line // 4)
        corners = [
            (left, top - height - gap),
            (left, bottom + gap),
            (right - width, top - height - gap),
            (right - width, bottom + gap),
            (left + gap, top + gap),
            (left + gap, bottom - height - gap),
        ]
        places.append(_free_place(canvas, corners, width, height, [*texts, *places], boxes))
    return places


def _label_line(canvas: Image, face: Face) -> int:
    """Return the line height for the label of this face, in pixels. Small faces get small labels."""
    return max(MIN_LINE_HEIGHT, min(line_height(canvas), round(face.detection.height / 4)))


def _draw_status(canvas: Image, status: str, line: int) -> Box:
    """Draw the status -> its box."""
    lines = wrap(status.split("   "), canvas.shape[1] - line, line) if status else []
    for number, text in enumerate(lines):
        draw_text(canvas, text, line // 2, line + line // 2 + number * 3 * line // 2, line)
    width = max((text_width(text, line) for text in lines), default=0)
    return 0, 0, line // 2 + width, (line // 2 + len(lines) * 3 * line // 2) * bool(lines)


def _draw_face(canvas: Image, face: Face, line: int, place: Box) -> None:
    """Draw the box of the face, and its label at `place`.

    An uncertain face is white and without an expression. Its bars still show the probabilities.
    """
    left, top, right, bottom = _box(face)
    colour, stroke = WHITE if face.uncertain else _colours(face)[face.expression], max(1, line // 8)
    cv2.rectangle(canvas, (left, top), (right, bottom), DARK, 3 * stroke)
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, stroke)
    line = _label_line(canvas, face)
    draw_text(canvas, _label(face), place[0], place[1] + line, line, colour)


def _label(face: Face) -> str:
    text = UNCERTAIN if face.uncertain else f"{face.expression} {100 * face.probability:.0f}%"
    return text if face.track is None else f"#{face.track} {text}"


def _draw_bars(
    canvas: Image, face: Face, line: int, texts: Sequence[Box], boxes: Sequence[Box], strata: bool, crowded: bool
) -> list[Box]:
    """Draw a bar for each expression, in the model's order, beside the face -> a list with their box.

    The bars have names if they are tall enough. With several faces, bars that would hide a text or a face are left out.
    """
    left, top, right, bottom = _box(face)
    face_height, gap = bottom - top, line // 2
    row = line if face_height > 4 * line else max(3, face_height // len(face.probabilities))
    bars = _bars(face, strata)
    thin = max(2, row // 4)
    step = row + thin * (bars.shape[1] - 1)
    has_names = row >= MIN_LINE_HEIGHT
    names = face.probabilities if has_names else ()
    width = max([3 * line, *(text_width(name, row) + row // 2 for name in names)])
    height = step * len(bars)
    corners = [
        (right + gap, top),
        (left - gap - width, top),
        (left, bottom + gap),
        (left, top - 4 * gap - height),  # the label is between
        (right - gap - width, bottom - gap - height),
    ]
    place = _free_place(canvas, corners, width, height, texts, boxes)
    if crowded and any(_overlap(place, other) for other in (*texts, *boxes)):
        return []
    for number, (name, colour) in enumerate(_colours(face).items()):
        y = place[1] + step * number
        _draw_bar(canvas, (place[0], y), (width, row), bars[number, 0], colour)
        for stratum in range(1, bars.shape[1]):
            corner = place[0], y + row + thin * (stratum - 1)
            _draw_bar(canvas, corner, (width, thin), bars[number, stratum], colour)
        if has_names:
            draw_text(canvas, name, place[0] + row // 4, y + row - row // 4, row)
    return [place]


def _bars(face: Face, strata: bool) -> np.ndarray:
    """Return the (E, 1) probabilities. With `strata` (E, 1 + N): those under each stratum follow."""
    averaged = np.array(list(face.probabilities.values()))[:, None]
    by_stratum = face.stratum_probabilities
    return np.hstack([averaged, np.transpose(by_stratum)]) if strata and by_stratum is not None else averaged


def _draw_bar(canvas: Image, corner: tuple[int, int], size: tuple[int, int], share: float, colour: Colour) -> None:
    """Draw a dark bar of that width and height, with a gap of a pixel below, and fill `share` with the colour."""
    (left, top), (width, height) = corner, size
    bottom = top + max(0, height - 2)
    cv2.rectangle(canvas, (left, top), (left + width - 1, bottom), DARK, cv2.FILLED)
    if filled := round(width * share):
        cv2.rectangle(canvas, (left, top), (left + filled - 1, bottom), colour, cv2.FILLED)


def _free_place(
    canvas: Image,
    corners: Iterable[tuple[int, int]],
    width: int,
    height: int,
    texts: Sequence[Box],
    boxes: Sequence[Box],
) -> Box:
    """Return the place, moved into the frame, that hides least of the texts, and then least of the boxes.

    `corners` are the upper left corners of the places, the preferred one first.
    """
    frame_height, frame_width = canvas.shape[:2]
    inside = [(max(0, min(x, frame_width - width)), max(0, min(y, frame_height - height))) for x, y in corners]
    places = [(x, y, x + width, y + height) for x, y in inside]
    return min(places, key=lambda place: [sum(_overlap(place, other) for other in group) for group in (texts, boxes)])


def _overlap(a: Box, b: Box) -> int:
    """Return the number of pixels in both boxes."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _box(face: Face) -> Box:
    box = face.detection
    return round(box.x), round(box.y), round(box.x + box.width), round(box.y + box.height)


def _colours(face: Face) -> dict[str, Colour]:
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(face.probabilities)}
