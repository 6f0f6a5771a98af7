"""What the window draws over the picture, measured in its pixels: messages, the keys, the sign of a recording."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from iern.runtime.app.keys import key_lines
from iern.runtime.drawing.lettering import WHITE
from iern.runtime.drawing.overlay import draw, status_box
from iern.runtime.drawing.placing import Box
from iern.runtime.drawing.signs import RED, draw_keys, draw_messages, draw_recording_sign

SIZES = [(320, 240), (640, 480), (480, 640), (1280, 720), (3840, 2160)]
MESSAGE = ["recording"]
LOST = "camera.example: the connection was lost; the next attempt follows in ten or more seconds"


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def drawn_part(before: np.ndarray, after: np.ndarray) -> Box:
    """The smallest box around the pixels that differ."""
    rows, columns = (np.flatnonzero(np.any(before != after, axis=2).any(axis=axis)) for axis in (1, 0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def hidden(before: np.ndarray, after: np.ndarray, box: Box) -> int:
    """How many pixels of the box differ."""
    left, top, right, bottom = box
    return int(np.any(before != after, axis=2)[top:bottom, left:right].sum())


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("place", [(0.3, 0.6), (0.0, 0.5), (0.6, 0.5), (0.3, 0.0), (0.3, 0.3)])
def test_a_message_and_the_sign_of_a_recording_hide_no_face_and_no_status(width, height, place):
    x, y = round(place[0] * width), round(place[1] * height)
    face = x, y, x + 2 * width // 5, y + 2 * height // 5
    frame = draw(noise(width, height), [], "24.3 fps   31 ms   2 faces   cpu")
    status = status_box(frame, "24.3 fps   31 ms   2 faces   cpu")
    canvas = frame.copy()
    sign = draw_recording_sign(canvas, [status], [face])
    draw_messages(canvas, MESSAGE, [status, sign], [face])
    assert hidden(frame, canvas, face) == hidden(frame, canvas, status) == 0
    assert np.any(canvas != frame)


def test_without_faces_a_message_is_in_the_middle_of_the_lower_edge():
    frame = noise(640, 480)
    canvas = frame.copy()
    box = draw_messages(canvas, MESSAGE, [], [])
    assert box == drawn_part(frame, canvas)
    assert box[3] == 480
    assert (box[0] + box[2]) / 2 == pytest.approx(320, abs=1)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_message_wider_than_the_image_is_wrapped(width, height):
    words = LOST.split()
    shown = []
    for number in (len(words) - 1, len(words)):
        canvas = np.full((height, width, 3), 200, np.uint8)
        left, top, right, bottom = draw_messages(canvas, [" ".join(words[:number])], [], [])
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert (canvas[:, :2] != 255).all() and (canvas[:, -2:] != 255).all(), "no letter is cut off at an edge"
        shown.append(canvas)
    assert np.any(shown[0] != shown[1]), "its last word is drawn"


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_the_sign_of_a_recording_is_a_red_dot_and_white_letters_at_the_upper_right(shade):
    frame = np.full((480, 640, 3), shade, np.uint8)
    canvas = frame.copy()
    left, top, right, bottom = draw_recording_sign(canvas, [], [])
    assert (top, right) == (0, 640)
    dot = np.all(canvas == RED, axis=2)
    letters = np.all(canvas[top:bottom, left:right] == WHITE, axis=2) & (shade != 255)
    assert dot.sum() == pytest.approx(cv2.contourArea(cv2.findContours(
        dot.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0][0]), rel=0.5)  # fmt: skip
    assert dot.sum() > 50
    assert letters.any() == (shade != 255)
    assert not np.any(canvas[60:] != frame[60:])


@pytest.mark.parametrize(("width", "height"), [*SIZES, (64, 48), (1, 1)])
def test_the_keys_are_in_the_middle_and_fit_a_usual_frame(width, height):
    frame = noise(width, height)
    canvas = frame.copy()
    left, top, right, bottom = draw_keys(canvas, key_lines())
    assert np.any(canvas != frame)
    if height >= 240:
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert (left + right) / 2 == pytest.approx(width / 2, abs=1)
