"""Text on an image that is readable on any background: letters with a dark outline, and panels of several lines."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from iern.runtime.drawing.placing import Box
from iern.runtime.imaging.images import Image

Colour = tuple[int, int, int]
"""Blue, green, red."""

WHITE: Colour = (255, 255, 255)
DARK: Colour = (24, 24, 24)

FONT = cv2.FONT_HERSHEY_SIMPLEX
LINE_SHARE = 0.036
"""Height of a line of text, as a share of the shorter side of the frame."""
MIN_LINE_HEIGHT = 11
"""Smallest height of a line, in pixels. In smaller ones the letters run together."""


def line_height(canvas: Image) -> int:
    """Return the height of a line of text on an image of this size, in pixels."""
    return max(MIN_LINE_HEIGHT, round(LINE_SHARE * min(canvas.shape[:2])))


def text_width(text: str, line: int) -> int:
    """Return the width of the text in pixels, for lines of `line` pixels. OpenCV's scale 1 fits lines of about 32."""
    (width, _), _ = cv2.getTextSize(text, FONT, line / 32, max(1, line // 14))
    return int(width)


def draw_text(canvas: Image, text: str, x: int, baseline: int, line: int, colour: Colour = WHITE) -> None:
    """Draw text from `x`, for lines of `line` pixels, with a dark outline that keeps it readable on any background.

    The outline is a dilation of the letters. A thicker stroke does not work in OpenCV 5, where it widens the letters.
    """
    border = max(1, line // 12)
    top, bottom = max(0, baseline - line), min(canvas.shape[0], baseline + line // 2)
    left, right = max(0, x - border), min(canvas.shape[1], max(0, x) + text_width(text, line) + 2 * border)
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


def wrap(parts: Sequence[str], width: int, line: int, space: str = "   ") -> list[str]:
    """Join the parts, with `space` between them, into as few lines of at most `width` pixels as possible."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}{space}{part}" if lines else part
        if lines and text_width(longer, line) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def panel_size(canvas: Image, lines: Sequence[str]) -> tuple[int, int]:
    """Return the width and height in pixels of the panel that `draw_panel` draws for these lines."""
    line = line_height(canvas)
    return max(text_width(text, line) for text in lines) + 2 * line, 3 * line // 2 * len(lines) + line


def draw_panel(canvas: Image, lines: Sequence[str], left: int, top: int) -> Box:
    """Draw the lines on a darkened background, with its upper left corner there, or at the edge -> its box."""
    line = line_height(canvas)
    left, top = max(0, left), max(0, top)
    width, height = panel_size(canvas, lines)
    background = canvas[top : top + height, left : left + width]
    background[:] = background // 4
    for number, text in enumerate(lines):
        draw_text(canvas, text, left + line, top + line // 2 + 3 * line // 2 * number + line, line)
    return left, top, left + width, top + height
