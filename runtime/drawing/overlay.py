"""Drawing on a frame: boxes, expressions, probabilities as bars, and a line about the loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from iern.runtime.drawing.lettering import DARK, SMALLEST, WHITE, Colour, line_height, width, wrapped, write
from iern.runtime.faces.face import UNCERTAIN, Face
from iern.runtime.imaging.images import Image

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are just outside."""

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
"""Blue, green, red; expression i of the model has colour i, so that a colour means one thing all along."""


def draw(frame: Image, faces: Sequence[Face], status: str, strata: bool = False) -> Image:
    """(H, W, 3) BGR frame -> a copy with its faces and the status drawn; the frame itself stays as it is.

    The status goes on as few lines as its parts, which three spaces divide, need. With `strata` the bars of each
    expression are the mean answer and, thinner, the answer under each stratum.
    """
    canvas = frame.copy()
    line = line_height(canvas)
    words = [_write_status(canvas, status, line)]
    boxes = [_box(face) for face in faces]
    labels = place_labels(canvas, faces, words)
    for face, place in zip(faces, labels, strict=True):
        _draw_face(canvas, face, line, place)
    words += labels
    for face in faces:
        boxes += _draw_bars(canvas, face, line, words, boxes, strata, crowded=len(faces) > 1)
    return canvas


def place_labels(canvas: Image, faces: Sequence[Face], words: Sequence[Box] = ()) -> list[Box]:
    """Where the words of each face go: inside the frame, off the other `words`, and off faces, as far as there is room.

    The first place of several as good is above the face.
    """
    boxes = [_box(face) for face in faces]
    places: list[Box] = []
    for face, (left, top, right, bottom) in zip(faces, boxes, strict=True):
        line = _label_line(canvas, face)
        across, down, gap = width(_label(face), line) + 2, 3 * line // 2, max(2, line // 4)
        corners = [
            (left, top - down - gap),
            (left, bottom + gap),
            (right - across, top - down - gap),
            (right - across, bottom + gap),
            (left + gap, top + gap),
            (left + gap, bottom - down - gap),
        ]
        places.append(_free_place(canvas, corners, across, down, [*words, *places], boxes))
    return places


def _label_line(canvas: Image, face: Face) -> int:
    """Pixels of a line for that face: a crowd of small faces gets small words."""
    return max(SMALLEST, min(line_height(canvas), round(face.detection.height / 4)))


def _write_status(canvas: Image, status: str, line: int) -> Box:
    """The box of what was written."""
    lines = wrapped(status.split("   "), canvas.shape[1] - line, line) if status else []
    for number, text in enumerate(lines):
        write(canvas, text, line // 2, line + line // 2 + number * 3 * line // 2, line)
    across = max((width(text, line) for text in lines), default=0)
    return 0, 0, line // 2 + across, (line // 2 + len(lines) * 3 * line // 2) * bool(lines)


def _draw_face(canvas: Image, face: Face, line: int, place: Box) -> None:
    """The box, and in its place the likeliest expression.

    An uncertain face has the colour of no expression and no name; its bars still tell what it may be.
    """
    left, top, right, bottom = _box(face)
    colour, stroke = WHITE if face.uncertain else _colours(face)[face.expression], max(1, line // 8)
    cv2.rectangle(canvas, (left, top), (right, bottom), DARK, 3 * stroke)
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, stroke)
    line = _label_line(canvas, face)
    write(canvas, _label(face), place[0], place[1] + line, line, colour)


def _label(face: Face) -> str:
    answer = UNCERTAIN if face.uncertain else f"{face.expression} {100 * face.probability:.0f}%"
    return answer if face.track is None else f"#{face.track} {answer}"


def _draw_bars(
    canvas: Image, face: Face, line: int, words: Sequence[Box], boxes: Sequence[Box], strata: bool, crowded: bool
) -> list[Box]:
    """Bars for each expression, in the model's order, beside the face, named where there is room -> their box.

    In a crowd there are none, and no box, where they would hide a word or a face.
    """
    left, top, right, bottom = _box(face)
    tall, gap = bottom - top, line // 2
    row = line if tall > 4 * line else max(3, tall // len(face.probabilities))
    bars = _bars(face, strata)
    thin = max(2, row // 4)
    step = row + thin * (bars.shape[1] - 1)
    named = row >= SMALLEST
    across = max(3 * line, *(width(name, row) + row // 2 for name in face.probabilities)) if named else 3 * line
    down = step * len(bars)
    corners = [
        (right + gap, top),
        (left - gap - across, top),
        (left, bottom + gap),
        (left, top - 4 * gap - down),  # the label stands between
        (right - gap - across, bottom - gap - down),
    ]
    place = _free_place(canvas, corners, across, down, words, boxes)
    if crowded and any(_overlap(place, other) for other in (*words, *boxes)):
        return []
    for number, (name, colour) in enumerate(_colours(face).items()):
        upper = place[1] + step * number
        _draw_bar(canvas, place[0], upper, across, row, bars[number, 0], colour)
        for stratum in range(1, bars.shape[1]):
            _draw_bar(canvas, place[0], upper + row + thin * (stratum - 1), across, thin, bars[number, stratum], colour)
        if named:
            write(canvas, name, place[0] + row // 4, upper + row - row // 4, row)
    return [place]


def _bars(face: Face, strata: bool) -> np.ndarray:
    """(E, 1) probabilities; with `strata` (E, 1 + N), behind the mean answer those under each stratum."""
    means = np.array(list(face.probabilities.values()))[:, None]
    answers = face.stratum_probabilities
    return np.hstack([means, np.transpose(answers)]) if strata and answers is not None else means


def _draw_bar(canvas: Image, left: int, top: int, across: int, down: int, share: float, colour: Colour) -> None:
    """A dark track of that size, less a pixel between it and the next below, and its first part in the colour."""
    bottom = top + max(0, down - 2)
    cv2.rectangle(canvas, (left, top), (left + across - 1, bottom), DARK, cv2.FILLED)
    if filled := round(across * share):
        cv2.rectangle(canvas, (left, top), (left + filled - 1, bottom), colour, cv2.FILLED)


def _free_place(
    canvas: Image,
    corners: Iterable[tuple[int, int]],
    across: int,
    down: int,
    words: Sequence[Box],
    boxes: Sequence[Box],
) -> Box:
    """The first of the places, moved into the frame, that hides least of the words and, among those, of the boxes."""
    height, wide = canvas.shape[:2]
    inside = [(max(0, min(x, wide - across)), max(0, min(y, height - down))) for x, y in corners]
    places = [(x, y, x + across, y + down) for x, y in inside]
    return min(places, key=lambda place: [sum(_overlap(place, other) for other in taken) for taken in (words, boxes)])


def _overlap(a: Box, b: Box) -> int:
    """The pixels two boxes share."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _box(face: Face) -> Box:
    box = face.detection
    return round(box.x), round(box.y), round(box.x + box.width), round(box.y + box.height)


def _colours(face: Face) -> dict[str, Colour]:
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(face.probabilities)}
