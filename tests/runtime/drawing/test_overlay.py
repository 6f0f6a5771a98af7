"""The overlay of a frame, measured in its pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

import cv2
import numpy as np
import pytest

from iern.runtime.drawing.lettering import WHITE, draw_text
from iern.runtime.drawing.overlay import PALETTE, draw, place_labels
from iern.runtime.drawing.placing import box_of
from iern.runtime.drawing.signs import draw_keys, draw_messages, draw_recording_sign
from iern.runtime.faces.face import Face
from iern.runtime.imaging.detection import Detection

EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")
STATUS = "24.3 fps   31 ms   2 faces   cpu"
LONG_STATUS = "24.3 fps   31 ms   age 245 ms   12345 dropped   3 failed   16 faces   tensorrt"


def face(x: float, y: float, width: float, height: float, likeliest: int = 1, uncertain: bool = False) -> Face:
    probabilities = dict.fromkeys(EXPRESSIONS, 0.02)
    probabilities[EXPRESSIONS[likeliest]] = 0.88
    return Face(Detection(x, y, width, height, np.zeros((5, 2)), 0.9), probabilities, 0.1, uncertain)


@dataclass(frozen=True)
class WithStrata(Face):
    stratum_probabilities: np.ndarray | None = field(default=None, compare=False)


def in_strata(x: float, y: float, width: float, height: float, strata: int) -> Face:
    """Return a face with other probabilities under each stratum."""
    by_stratum = np.random.default_rng(strata).dirichlet(np.ones(len(EXPRESSIONS)), strata)
    by_stratum[:, 1] = np.linspace(0.2, 0.9, strata)
    means = dict(zip(EXPRESSIONS, by_stratum.mean(axis=0), strict=True))
    box = Detection(x, y, width, height, np.zeros((5, 2)), 0.9)
    return WithStrata(box, means, 0.3, stratum_probabilities=by_stratum)


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(H, W) bool: which pixels differ."""
    return np.any(before != after, axis=2)


def test_the_frame_itself_is_not_changed():
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
def test_the_status_line_is_readable_on_any_background_and_grows_with_the_frame(width, height, background):
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


def test_an_uncertain_face_has_a_white_box_and_the_word_uncertain_whatever_is_likeliest():
    black = np.zeros((480, 640, 3), np.uint8)
    drawn = [draw(black, [face(200, 150, 100, 120, likeliest, uncertain=True)], "") for likeliest in (1, 2)]
    for picture in drawn:
        assert tuple(picture[210, 200]) == WHITE and WHITE not in PALETTE
    label = np.s_[120:149, 150:400]
    assert drawn[0][label].any()
    assert np.array_equal(drawn[0][label], drawn[1][label]), "the label has no expression"
    assert changed(*drawn).any(), "the bars differ"


def test_the_bars_are_as_long_as_the_probabilities():
    values = (0.4, 0.3, 0.1, 0.1, 0.05, 0.05, 0.0)
    small = Face(
        Detection(200, 200, 40, 40, np.zeros((5, 2)), 0.9), dict(zip(EXPRESSIONS, values, strict=True)), 0
    )  # so small that its bars have no names, which would cover them
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


@pytest.mark.parametrize(("width", "height"), [(321, 241), (1, 1), (4096, 17), (17, 4096)])
@pytest.mark.parametrize("count", [0, 1, 16])
@pytest.mark.parametrize("strata", [False, True])
def test_odd_sizes_can_be_drawn_with_any_number_of_faces(width, height, count, strata):
    random = np.random.default_rng(count)
    faces = [in_strata(*(random.random(4) * (width, height, width, height)), strata=3) for _ in range(count)]
    drawn = draw(noise(width, height), faces, LONG_STATUS, strata)
    assert drawn.shape == (height, width, 3)
    draw_keys(drawn, ["h  these keys", "q, Esc  leave"])
    draw_messages(drawn, ["wrote a file with a rather long name.png"], [], [box_of(one) for one in faces])
    draw_recording_sign(drawn, [], [box_of(one) for one in faces])
    assert drawn.shape == (height, width, 3)


@pytest.mark.parametrize("shade", [0, 40, 128, 215, 255])
def test_text_has_enough_contrast_on_any_background(shade):
    """WCAG 2 requires a contrast of 4.5 between text and background. Here the background is the outline."""
    for colour in (WHITE, *PALETTE):
        canvas = np.full((120, 400, 3), shade, np.uint8)
        draw_text(canvas, "IIIII happy 92%", 20, 80, 40, colour)
        letters = np.all(np.abs(canvas.astype(int) - colour) < 12, axis=2)
        around = cv2.dilate(letters.astype(np.uint8), np.ones((9, 9))).astype(bool) & ~letters
        darkest = min(luminance(pixel) for pixel in canvas[around])
        assert letters.sum() > 100
        assert (luminance(colour) + 0.05) / (darkest + 0.05) > 4.5


def luminance(colour) -> float:
    """Relative luminance of WCAG 2 of a BGR colour."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.asarray(colour) / 255]
    return float(np.dot(linear, (0.0722, 0.7152, 0.2126)))


@pytest.mark.parametrize("shape", [(240, 320), (480, 640), (1080, 1920)])
def test_a_status_too_long_for_its_frame_is_wrapped(shape):
    frame = np.zeros((*shape, 3), np.uint8)
    whole, first = draw(frame, [], LONG_STATUS), draw(frame, [], LONG_STATUS.rpartition("   ")[0])
    assert changed(whole, first).any(), "its last part is drawn"
    pixels = changed(frame, whole)
    assert not pixels[:, -2:].any(), "and not cut off at the edge"
    assert np.flatnonzero(pixels.any(axis=1)).max() < 0.15 * shape[0]


@pytest.mark.parametrize("shape", [(241, 321), (480, 640), (1080, 1920)])
def test_the_labels_of_faces_are_in_the_frame_and_do_not_overlap(shape):
    """There are sixteen faces, some at the edges and some near each other: as many as there is room for."""
    height, width = shape
    step, row = width / 4, height / 4
    crowd = [face(step * (i % 4), row * (i // 4), step / 4, row / 2) for i in range(16)]
    places = place_labels(np.zeros((*shape, 3), np.uint8), crowd)
    drawn = draw(np.zeros((*shape, 3), np.uint8), crowd, "")
    for number, (left, top, right, bottom) in enumerate(places):
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert drawn[top:bottom, left:right].max() > 150, "the letters are drawn"
        for other in places[number + 1 :]:
            assert left >= other[2] or right <= other[0] or top >= other[3] or bottom <= other[1]


@pytest.mark.parametrize("corner", [(8, 8), (572, 8), (8, 412), (572, 412)])
def test_the_label_of_a_face_in_a_corner_is_as_complete_as_in_the_middle(corner):
    black = np.zeros((480, 640, 3), np.uint8)
    drawn = [draw(black, [face(*place, 60, 60, likeliest=4)], "") for place in (corner, (300, 200))]
    counts = [int(np.all(picture == PALETTE[4], axis=2).sum()) for picture in drawn]
    assert counts[0] == counts[1] > 0


def test_in_a_crowd_bars_that_would_hide_a_neighbour_are_left_out():
    crowd = [face(10 + 78 * column, 40 + 105 * row, 70, 80) for row in range(4) for column in range(8)]
    frame = noise(640, 480)
    drawn = draw(frame, crowd, STATUS)
    for one in crowd:
        x, y = round(one.detection.x), round(one.detection.y)
        assert not changed(frame, drawn)[y + 20 : y + 60, x + 8 : x + 62].any()


def test_the_bars_of_the_strata_follow_and_are_as_long_as_their_probabilities():
    one = in_strata(200, 200, 40, 40, strata=3)  # so small that no name covers its bars
    mean, both = (draw(np.zeros((480, 640, 3), np.uint8), [one], "", strata) for strata in (False, True))
    lengths = [bar_lengths(picture[195:, 244:], PALETTE[1]) for picture in (mean, both)]
    values = [one.probabilities["happy"], *one.stratum_probabilities[:, 1]]
    assert len(lengths[0]) == 1
    assert len(lengths[1]) == 4
    track = lengths[0][0] / values[0]
    assert lengths[1] == pytest.approx([track * value for value in values], abs=1.5)


def bar_lengths(picture: np.ndarray, colour: tuple[int, int, int]) -> list[int]:
    """Return the lengths of the bars of that colour, from the top down."""
    right = [np.flatnonzero(row)[-1] + 1 if row.any() else 0 for row in np.all(picture == colour, axis=2)]
    bars = [next(iter(group)) for length, group in groupby(right) if length]
    left = np.flatnonzero(np.all(picture == colour, axis=2).any(axis=0))[0]
    return [int(bar - left) for bar in bars]


def test_names_outside_ascii_and_more_expressions_than_colours_can_be_drawn():
    probabilities = {f"überrascht {i}": 0.1 for i in range(10)}
    drawn = draw(
        np.zeros((480, 640, 3), np.uint8),
        [Face(Detection(100, 100, 150, 200, np.zeros((5, 2)), 1), probabilities, 0)],
        "",
    )
    assert drawn.any()


def test_the_outline_surrounds_the_text_of_this_opencv():
    """OpenCV 5 draws its own font. In every version, dark pixels surround the light pixels of a letter."""
    drawn = draw(np.full((480, 640, 3), 255, np.uint8), [], "IIII")
    dark = (drawn < 100).all(axis=2).astype(np.uint8)
    inside = cv2.morphologyEx(dark, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)).astype(bool)
    letters = (drawn > 200).all(axis=2) & inside
    assert letters.sum() > 20
    assert dark.sum() > letters.sum()
