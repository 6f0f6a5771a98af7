"""What is drawn on a frame, measured in its pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from iern.runtime.detect import Detection
from iern.runtime.lettering import WHITE
from iern.runtime.overlay import PALETTE, draw
from iern.runtime.results import Face

EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")
STATUS = "24.3 fps   31 ms   2 faces   cpu"


def face(x: float, y: float, width: float, height: float, likeliest: int = 1, uncertain: bool = False) -> Face:
    probabilities = dict.fromkeys(EXPRESSIONS, 0.02)
    probabilities[EXPRESSIONS[likeliest]] = 0.88
    return Face(Detection(x, y, width, height, np.zeros((5, 2)), 0.9), probabilities, 0.1, uncertain)


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(H, W) bool: which pixels differ."""
    return np.any(before != after, axis=2)


def test_the_frame_itself_stays_as_it_is():
    frame = noise(320, 240)
    before = frame.copy()
    drawn = draw(frame, [face(50, 60, 80, 90)], STATUS)
    assert np.array_equal(frame, before)
    assert (drawn.shape, drawn.dtype) == (frame.shape, np.uint8)
    assert not np.shares_memory(drawn, frame)
    assert np.array_equal(drawn, draw(frame, [face(50, 60, 80, 90)], STATUS))


def test_without_faces_only_the_top_line_is_drawn():
    frame = noise(640, 480)
    rows = np.flatnonzero(changed(frame, draw(frame, [], STATUS)).any(axis=1))
    assert rows.max() < 48
    assert np.array_equal(frame, draw(frame, [], ""))


@pytest.mark.parametrize(("width", "height"), [(320, 240), (640, 480), (1920, 1080), (3840, 2160)])
@pytest.mark.parametrize("background", [0, 128, 255])
def test_the_status_line_can_be_read_on_any_ground_and_grows_with_the_frame(width, height, background):
    frame = np.full((height, width, 3), background, np.uint8)
    drawn = draw(frame, [], STATUS)
    assert drawn.max() >= 230, "light letters"
    assert drawn.min() <= 40, "and a dark outline"
    pixels = changed(frame, drawn)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    letters = rows.max() - rows.min()
    assert max(8, 0.02 * height) <= letters <= max(20, 0.08 * height)
    assert columns.max() < width - 1, "the line fits"
    assert columns.max() - columns.min() > 6 * letters


def test_the_box_is_drawn_where_the_face_is_in_the_colour_of_its_expression():
    drawn = draw(np.zeros((480, 640, 3), np.uint8), [face(200, 150, 100, 120, likeliest=2)], "")
    for x, y in ((200, 210), (300, 210), (250, 270)):
        assert tuple(drawn[y, x]) == PALETTE[2]
    assert not drawn[180:250, 220:280].any(), "the face itself is free"


def test_an_uncertain_face_has_the_box_of_no_expression_and_says_so_whatever_is_likeliest():
    black = np.zeros((480, 640, 3), np.uint8)
    drawn = [draw(black, [face(200, 150, 100, 120, likeliest, uncertain=True)], "") for likeliest in (1, 2)]
    for picture in drawn:
        assert tuple(picture[210, 200]) == WHITE and WHITE not in PALETTE
    label = np.s_[120:149, 150:400]
    assert drawn[0][label].any()
    assert np.array_equal(drawn[0][label], drawn[1][label]), "the word names none of them"
    assert changed(*drawn).any(), "the bars do"


def test_the_bars_are_as_long_as_the_probabilities():
    values = (0.4, 0.3, 0.1, 0.1, 0.05, 0.05, 0.0)
    small = Face(
        Detection(200, 200, 40, 40, np.zeros((5, 2)), 0.9), dict(zip(EXPRESSIONS, values, strict=True)), 0
    )  # so small that its bars carry no names, which would cover them
    drawn = draw(np.zeros((480, 640, 3), np.uint8), [small], "")
    beside = drawn[195:250, 244:320]
    lengths = [int(np.all(beside == colour, axis=2).sum(axis=1).max()) for colour in PALETTE[:7]]
    track = lengths[0] / values[0]
    assert track > 40
    assert lengths == pytest.approx([track * value for value in values], abs=1.5)


def test_the_bars_of_one_face_do_not_hide_its_neighbour():
    frame = noise(640, 480)
    left, right = face(150, 150, 100, 120), face(270, 150, 100, 120)
    drawn = draw(frame, [left, right], STATUS)
    for x in (150, 270):
        assert not changed(frame, drawn)[160:260, x + 10 : x + 90].any()


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (16, 16), (48, 64), (640, 240), (2592, 3872)])
def test_a_frame_of_any_size_and_a_box_beyond_its_edges_can_be_drawn(shape):
    height, width = shape
    frame = np.full((height, width, 3), 90, np.uint8)
    boxes = [
        (-0.5 * width, -0.5 * height, 2 * width, 2 * height),
        (0.9 * width, 0.9 * height, 0.3 * width, 0.3 * height),
        (width / 2, height / 2, 0, 0),
        (3 * width, 3 * height, width, height),
        (-3 * width, -3 * height, width, height),
    ]
    drawn = draw(frame, [face(*box) for box in boxes], STATUS)
    assert drawn.shape == frame.shape


def test_names_outside_ascii_and_more_expressions_than_colours_can_be_drawn():
    probabilities = {f"überrascht {i}": 0.1 for i in range(10)}
    drawn = draw(
        np.zeros((480, 640, 3), np.uint8),
        [Face(Detection(100, 100, 150, 200, np.zeros((5, 2)), 1), probabilities, 0)],
        "",
    )
    assert drawn.any()


def test_the_outline_holds_with_the_text_of_this_opencv():
    """OpenCV 5 draws its own font: whatever the version, each light pixel of a letter lies within dark ones."""
    drawn = draw(np.full((480, 640, 3), 255, np.uint8), [], "IIII")
    dark = (drawn < 100).all(axis=2).astype(np.uint8)
    inside = cv2.morphologyEx(dark, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)).astype(bool)
    letters = (drawn > 200).all(axis=2) & inside
    assert letters.sum() > 20
    assert dark.sum() > letters.sum()
