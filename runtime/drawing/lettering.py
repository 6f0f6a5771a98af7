"""Words on a picture that can be read on anything: letters with a dark outline, and panels of several lines."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from iern.runtime.imaging.images import Image

Colour = tuple[int, int, int]
"""Blue, green, red."""

WHITE: Colour = (255, 255, 255)
DARK: Colour = (24, 24, 24)

FONT = cv2.FONT_HERSHEY_SIMPLEX
SHARE = 0.036
"""Height of a line of text over the shorter side of the frame ..."""
SMALLEST = 11
"""... but no fewer pixels than this, below which letters run together."""


def line_height(picture: Image) -> int:
    """Pixels of a line of text on a picture of that size."""
    return max(SMALLEST, round(SHARE * min(picture.shape[:2])))


def width(text: str, line: int) -> int:
    """Pixels across; OpenCV's scale 1 is made for lines of about 32 pixels."""
    (across, _), _ = cv2.getTextSize(text, FONT, line / 32, max(1, line // 14))
    return int(across)


def write(canvas: Image, text: str, x: int, baseline: int, line: int, colour: Colour = WHITE) -> None:
    """Text from `x` in letters for lines of `line` pixels, with a dark outline that lets it be read on anything.

    The outline is grown from the letters: a thicker stroke is no outline in OpenCV 5, where it widens the letters.
    """
    border = max(1, line // 12)
    top, bottom = max(0, baseline - line), min(canvas.shape[0], baseline + line // 2)
    left, right = max(0, x - border), min(canvas.shape[1], max(0, x) + width(text, line) + 2 * border)
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


def wrapped(parts: Sequence[str], across: int, line: int) -> list[str]:
    """The parts, with space between them, in as few lines of at most `across` pixels as that takes."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}   {part}" if lines else part
        if lines and width(longer, line) <= across:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def panel(canvas: Image, lines: Sequence[str]) -> None:
    """Write the lines in the middle of the picture, on a ground that is darkened for them."""
    height, across = canvas.shape[:2]
    line = line_height(canvas)
    step = 3 * line // 2
    wide, tall = max(width(text, line) for text in lines) + 2 * line, step * len(lines) + line
    left, top = max(0, (across - wide) // 2), max(0, (height - tall) // 2)
    ground = canvas[top : top + tall, left : left + wide]
    ground[:] = ground // 4
    for number, text in enumerate(lines):
        write(canvas, text, left + line, top + line // 2 + step * number + line, line)
