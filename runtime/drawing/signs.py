"""What the window draws over the picture: the list of keys, messages, and the sign of a recording."""

from __future__ import annotations

from collections.abc import Sequence

import cv2

from iern.runtime.drawing.lettering import (
    DARK,
    Colour,
    draw_panel,
    draw_text,
    line_height,
    panel_size,
    text_width,
    wrap,
)
from iern.runtime.drawing.placing import Box, free_place
from iern.runtime.imaging.images import Image

RED: Colour = (40, 40, 235)
RECORDING = "REC"


def draw_keys(canvas: Image, lines: Sequence[str]) -> Box:
    """Draw the list of keys in the middle of the image -> its box."""
    height, width = canvas.shape[:2]
    size = panel_size(canvas, lines)
    return draw_panel(canvas, lines, (width - size[0]) // 2, (height - size[1]) // 2)


def draw_recording_sign(canvas: Image, texts: Sequence[Box], faces: Sequence[Box]) -> Box:
    """Draw a red dot and REC into the corner that hides least of the texts and faces -> the sign's box.

    The upper right corner is the first choice.
    """
    frame_height, frame_width = canvas.shape[:2]
    line = line_height(canvas)
    width, height = 2 * line + text_width(RECORDING, line), 2 * line
    right, bottom = frame_width - width, frame_height - height
    place = free_place(canvas, [(right, 0), (right, bottom), (0, bottom), (0, 0)], width, height, texts, faces)
    middle = place[0] + 3 * line // 4, place[1] + line
    radius = max(3, 3 * line // 8)
    cv2.circle(canvas, middle, radius + max(1, line // 12), DARK, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(canvas, middle, radius, RED, cv2.FILLED, cv2.LINE_AA)
    draw_text(canvas, RECORDING, place[0] + 3 * line // 2, place[1] + line + line // 3, line)
    return place


def draw_messages(canvas: Image, lines: Sequence[str], texts: Sequence[Box], faces: Sequence[Box]) -> Box:
    """Draw the lines where they hide least of the texts and faces -> their box.

    The middle of the lower edge is the first choice. Lines wider than the image are wrapped.
    """
    frame_height, frame_width = canvas.shape[:2]
    line = line_height(canvas)
    wrapped = [part for text in lines for part in wrap(text.split(" "), frame_width - 2 * line, line, " ")]
    width, height = panel_size(canvas, wrapped)
    columns = (frame_width - width) // 2, 0, frame_width - width
    rows = frame_height - height, 0, (frame_height - height) // 2
    corners = [(column, row) for row in rows for column in columns]
    left, top, _, _ = free_place(canvas, corners, width, height, texts, faces)
    return draw_panel(canvas, wrapped, left, top)
