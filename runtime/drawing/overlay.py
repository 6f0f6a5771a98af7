"""The overlay of a frame: boxes, expressions, probabilities as bars, and the status line of the loop."""

from __future__ import annotations

from collections.abc import Sequence

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
from iern.runtime.drawing.placing import Box, box_of, free_place, overlap
from iern.runtime.faces.face import UNCERTAIN, Face
from iern.runtime.imaging.images import Image

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
    boxes = [box_of(face) for face in faces]
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
    boxes = [box_of(face) for face in faces]
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
        places.append(free_place(canvas, corners, width, height, [*texts, *places], boxes))
    return places


def _label_line(canvas: Image, face: Face) -> int:
    """Return the line height for the label of this face, in pixels. Small faces get small labels."""
    return max(MIN_LINE_HEIGHT, min(line_height(canvas), round(face.detection.height / 4)))


def status_box(canvas: Image, status: str) -> Box:
    """Return the box that `draw` fills with the status, at the upper left. Empty if there is none."""
    line = line_height(canvas)
    lines = _status_lines(canvas, status)
    width = max((text_width(text, line) for text in lines), default=0)
    return 0, 0, line // 2 + width, (line // 2 + len(lines) * 3 * line // 2) * bool(lines)


def _status_lines(canvas: Image, status: str) -> list[str]:
    line = line_height(canvas)
    return wrap(status.split("   "), canvas.shape[1] - line, line) if status else []


def _draw_status(canvas: Image, status: str, line: int) -> Box:
    """Draw the status -> its box."""
    for number, text in enumerate(_status_lines(canvas, status)):
        draw_text(canvas, text, line // 2, line + line // 2 + number * 3 * line // 2, line)
    return status_box(canvas, status)


def _draw_face(canvas: Image, face: Face, line: int, place: Box) -> None:
    """Draw the box of the face, and its label at `place`.

    An uncertain face is white and without an expression. Its bars still show the probabilities.
    """
    left, top, right, bottom = box_of(face)
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
    left, top, right, bottom = box_of(face)
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
    place = free_place(canvas, corners, width, height, texts, boxes)
    if crowded and any(overlap(place, other) for other in (*texts, *boxes)):
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


def _colours(face: Face) -> dict[str, Colour]:
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(face.probabilities)}
