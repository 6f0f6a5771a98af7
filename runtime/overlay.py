"""Drawing on a frame: boxes, expressions, probabilities as bars, and a line about the loop."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from iern.runtime.images import Image
from iern.runtime.results import UNCERTAIN, Face

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels; right and bottom are just outside"""

WHITE: Colour = (255, 255, 255)
DARK: Colour = (24, 24, 24)
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

FONT = cv2.FONT_HERSHEY_SIMPLEX
SHARE = 0.036
"""Height of a line of text over the shorter side of the frame ..."""
SMALLEST = 11
"""... but no fewer pixels than this, below which letters run together."""


def draw(frame: Image, faces: Sequence[Face], status: str) -> Image:
    """(H, W, 3) BGR frame -> a copy with its faces and the status line drawn; the frame itself stays as it is."""
    canvas = frame.copy()
    line = max(SMALLEST, round(SHARE * min(canvas.shape[:2])))
    taken = [_box(face) for face in faces]
    for face in faces:
        _draw_face(canvas, face, line)
        taken.append(_draw_bars(canvas, face, line, taken))
    _write(canvas, status, line // 2, line + line // 2, line, WHITE)
    return canvas


def _draw_face(canvas: Image, face: Face, line: int) -> None:
    """The box, and the likeliest expression above its top edge, or below it near the frame's top.

    An uncertain face has the colour of no expression and no name; its bars still tell what it may be.
    """
    left, top, right, bottom = _box(face)
    colour, stroke = WHITE if face.uncertain else _colours(face)[face.expression], max(1, line // 8)
    cv2.rectangle(canvas, (left, top), (right, bottom), DARK, 3 * stroke)
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, stroke)
    label = UNCERTAIN if face.uncertain else f"{face.expression} {100 * face.probability:.0f}%"
    above = top - line // 2
    baseline = above if above > 2.5 * line else top + line + stroke  # the status line has the frame's top
    _write(canvas, label, min(left, canvas.shape[1] - _width(label, line)), baseline, line, colour)


def _draw_bars(canvas: Image, face: Face, line: int, taken: Sequence[Box]) -> Box:
    """One bar an expression, in the model's order, beside the face, named where there is room; returns their box."""
    _, top, _, bottom = _box(face)
    tall = bottom - top
    row = line if tall > 4 * line else max(3, tall // len(face.probabilities))
    named = row >= SMALLEST
    across = max(3 * line, *(_width(name, row) + row // 2 for name in face.probabilities)) if named else 3 * line
    place = _free_place(canvas, _box(face), across, row * len(face.probabilities), line // 2, taken)
    left, upper, right, _ = place
    for name, probability in face.probabilities.items():
        lower = upper + row
        filled = left + round(across * probability)
        cv2.rectangle(canvas, (left, upper), (right - 1, lower - 2), DARK, cv2.FILLED)
        if filled > left:
            cv2.rectangle(canvas, (left, upper), (filled - 1, lower - 2), _colours(face)[name], cv2.FILLED)
        if named:
            _write(canvas, name, left + row // 4, lower - row // 4, row, WHITE)
        upper = lower
    return place


def _free_place(canvas: Image, face: Box, across: int, down: int, gap: int, taken: Sequence[Box]) -> Box:
    """Where bars of that size hide least of what is `taken`: right of the face, left of it, below, above or inside."""
    height, width = canvas.shape[:2]
    left, top, right, bottom = face
    corners = [
        (right + gap, top),
        (left - gap - across, top),
        (left, bottom + gap),
        (left, top - 2 * gap - down - 2 * gap),  # the label stands between
        (right - gap - across, bottom - gap - down),
    ]
    places = []
    for x, y in corners:
        x, y = max(0, min(x, width - across)), max(0, min(y, height - down))
        places.append((x, y, x + across, y + down))
    return min(places, key=lambda place: sum(_overlap(place, other) for other in taken))


def _overlap(a: Box, b: Box) -> int:
    """The pixels two boxes share."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _box(face: Face) -> Box:
    box = face.detection
    return round(box.x), round(box.y), round(box.x + box.width), round(box.y + box.height)


def _colours(face: Face) -> dict[str, Colour]:
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(face.probabilities)}


def _write(canvas: Image, text: str, x: int, baseline: int, line: int, colour: Colour) -> None:
    """Text from `x` in letters for lines of `line` pixels, with a dark outline that lets it be read on anything.

    The outline is grown from the letters: a thicker stroke is no outline in OpenCV 5, where it widens the letters.
    """
    border = max(1, line // 12)
    top, bottom = max(0, baseline - line), min(canvas.shape[0], baseline + line // 2)
    left, right = max(0, x - border), min(canvas.shape[1], max(0, x) + _width(text, line) + 2 * border)
    if top >= bottom or left >= right:
        return
    region = canvas[top:bottom, left:right]
    letters = np.zeros(region.shape[:2], np.uint8)
    origin = max(0, x) - left, baseline - top
    cv2.putText(letters, text, origin, FONT, line / 32, 255, max(1, line // 14), cv2.LINE_AA)
    outline = cv2.dilate(letters, np.ones((2 * border + 1, 2 * border + 1), np.uint8))
    for mask, ink in ((outline, DARK), (letters, colour)):
        weight = mask[..., None].astype(np.uint16)  # 255 * 255 still fits
        region[:] = (region * (255 - weight) + np.array(ink, np.uint16) * weight) // 255


def _width(text: str, line: int) -> int:
    """Pixels across; OpenCV's scale 1 is made for lines of about 32 pixels."""
    (width, _), _ = cv2.getTextSize(text, FONT, line / 32, max(1, line // 14))
    return int(width)
