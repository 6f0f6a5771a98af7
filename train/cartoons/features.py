"""Draw the features that move: brows, eyes, nose, mouth, and the creases between them.

The face's middle is at (0, 0), the top of the head at y = -1, the chin near y = 1 (`pen.Points`).
Lengths were set by eye on contact sheets. The comment of a line names the action unit that moves it.
"""

from __future__ import annotations

import numpy as np

from iern.train.cartoons.muscles import Muscles
from iern.train.cartoons.pen import Pen, Points, arc, oval
from iern.train.cartoons.people import Colour, Person

EYE_Y = -0.10
BROW_Y = -0.37
MOUTH_Y = 0.57
IRIS_RADIUS = 0.085
SCLERA: Colour = (238, 240, 242)
TEETH: Colour = (226, 236, 240)
MOUTH_CAVITY: Colour = (36, 22, 62)
TONGUE: Colour = (96, 88, 196)
INK: Colour = (18, 16, 20)
SIDES = (-1, 1)

_ACROSS = np.linspace(-1, 1, 21)


def shade(colour: Colour, factor: float) -> Colour:
    """-> the colour, darkened by a factor below 1 or lightened by one above 1."""
    blue, green, red = (min(255.0, channel * factor) for channel in colour)
    return blue, green, red


def draw_creases(pen: Pen, person: Person, muscles: Muscles) -> None:
    """Forehead, frown, cheek and nose-to-mouth lines. Age makes them deep, and a muscle that folds the skin deeper."""
    m = muscles
    raised = (m.inner_brow_raiser + m.outer_brow_raiser) / 2  # AU 1 + 2 fold the whole forehead, AU 1 its middle
    reach = 0.16 + 0.26 * m.outer_brow_raiser
    for y in (-0.56, -0.66):
        _crease(pen, person, arc((-reach, y), (0, y - 0.03), (reach, y)), max(raised, 0.5 * person.age))
    chin = arc((-0.11, MOUTH_Y + 0.22), (0, MOUTH_Y + 0.17), (0.11, MOUTH_Y + 0.22))
    _crease(pen, person, chin, m.chin_raiser)  # AU 17
    for side in SIDES:
        frown = arc((side * 0.06, -0.44), (side * 0.045, -0.36), (side * 0.06, -0.26))
        _crease(pen, person, frown, max(m.brow_lowerer, 0.5 * m.nose_wrinkler, 0.3 * person.age))  # AU 4, 9
        eye, corner = side * person.eye_spacing, side * (person.eye_spacing + person.eye_width)
        cheek = arc((eye - 0.15, EYE_Y + 0.13), (eye, EYE_Y + 0.18), (eye + 0.15, EYE_Y + 0.13))
        _crease(pen, person, cheek, max(m.cheek_raiser, 0.5 * person.age))  # AU 6
        for rise in (-0.05, 0.03):
            foot = np.array([(corner + side * 0.03, EYE_Y + 0.2 * rise), (corner + side * 0.13, EYE_Y + rise)])
            _crease(pen, person, foot, max(m.cheek_raiser, 0.4 * person.age))  # AU 6: crow's feet
        wing = -0.1 + person.nose_length - 0.05 * m.nose_wrinkler
        fold = arc(
            (side * (person.nose_width + 0.04), wing),
            (side * (person.nose_width + 0.14), (wing + MOUTH_Y) / 2 - 0.03),
            (side * (person.mouth_width + 0.07), MOUTH_Y - 0.02),
        )
        pulled = max(m.nose_wrinkler, m.upper_lip_raiser, 0.8 * m.lip_corner_puller)  # AU 9, 10, 12
        _crease(pen, person, fold, max(pulled, 0.6 * person.age))


def draw_nose(pen: Pen, person: Person, muscles: Muscles) -> None:
    """Bridge, wings and nostrils; AU 9 wrinkles the bridge, pulls the wings up and widens them."""
    wrinkle = muscles.nose_wrinkler
    width, y = person.nose_width * (1 + 0.3 * wrinkle), -0.1 + person.nose_length - 0.05 * wrinkle
    line = shade(person.skin, 0.6)
    pen.fill(oval(0, y - 0.03, 0.8 * width, 0.06), shade(person.skin, 0.93))
    pen.stroke(arc((0.05, EYE_Y - 0.02), (0.06, y - 0.15), (0.07, y - 0.07)), shade(person.skin, 0.78), 0.025)
    pen.stroke(arc((-width, y - 0.04), (0, y + 0.045), (width, y - 0.04)), line, 0.028)
    for side in SIDES:
        pen.fill(oval(side * 0.5 * width, y - 0.005, 0.035, 0.02), shade(person.skin, 0.4))
        wing = arc((side * width, y - 0.03), (side * 1.12 * width, y - 0.07), (side * 0.8 * width, y - 0.11))
        pen.stroke(wing, line, 0.02)
        for rise in (0.0, 0.07, 0.14):
            ridge = arc((side * 0.02, -0.12 + rise), (side * 0.06, -0.13 + rise), (side * 0.11, -0.17 + rise))
            _crease(pen, person, ridge, wrinkle)


def draw_eyes(pen: Pen, person: Person, muscles: Muscles) -> None:
    """Eyeballs between their lids; AU 5 and 7 open and narrow them, AU 6 pushes the lower lid up, AU 43 droops."""
    lids = [_lids(side, person, muscles) for side in SIDES]
    with pen.inside([np.vstack([upper, lower[::-1]]) for upper, lower in lids]):
        for side in SIDES:
            pen.fill(oval(side * person.eye_spacing, EYE_Y, 0.26, 0.26), SCLERA)
            x = side * person.eye_spacing + 0.1 * muscles.gaze_x
            y = EYE_Y - 0.02 + 0.07 * muscles.gaze_y
            pen.fill(oval(x, y, IRIS_RADIUS, IRIS_RADIUS), person.iris)
            pen.fill(oval(x, y, 0.045, 0.045), INK)
            pen.fill(oval(x - 0.025, y - 0.03, 0.018, 0.018), SCLERA)
    for upper, lower in lids:
        pen.stroke(upper - (0, 0.055), shade(person.skin, 0.75), 0.018)
        pen.stroke(lower, shade(person.skin, 0.55), 0.016)
        pen.stroke(upper, INK, 0.034)


def draw_brows(pen: Pen, person: Person, muscles: Muscles) -> None:
    """Tapered brows; AU 1 lifts their inner ends, AU 2 the outer, AU 4 lowers them and draws them together."""
    m = muscles
    y = BROW_Y + person.brow_height
    low = m.brow_lowerer + 0.35 * person.resting_frown
    # AU 1 and 4 together do not cancel: they make the brow oblique, its inner end high.
    inner_low = low * (1 - 0.7 * min(m.inner_brow_raiser, 1)) + 0.45 * m.nose_wrinkler
    inner = (0.17 - 0.04 * m.brow_lowerer, y + 0.11 * inner_low - 0.16 * m.inner_brow_raiser)
    for side in SIDES:
        middle = (0.38, y - 0.06 + 0.06 * low - 0.07 * m.inner_brow_raiser - 0.11 * m.outer_brow_raiser)
        outer = (0.60, y - 0.02 * low + 0.03 * m.inner_brow_raiser - 0.13 * m.outer_brow_raiser)
        spine = arc(inner, middle, outer)
        taper = np.stack([np.zeros(len(spine)), person.brow_thickness * np.linspace(0.5, 0.15, len(spine))], 1)
        pen.fill(np.vstack([spine - taper, (spine + taper)[::-1]]) * [side, 1], shade(person.hair, 0.7))


def draw_mouth(pen: Pen, person: Person, muscles: Muscles) -> None:
    """Lips, and between them teeth and tongue."""
    m = muscles
    upper, lower = _mouth_opening(person, m)
    t = _ACROSS
    fullness = person.lip_fullness * (1 - 0.75 * min(m.lip_tightener, 1)) * (1 - 0.3 * m.lip_corner_puller)  # AU 23
    bow = (1 - t**2) * (1 - 0.35 * np.exp(-((t / 0.25) ** 2)))
    top = upper - np.stack([0 * t, fullness * bow], 1)
    bottom = lower + np.stack([0 * t, 1.25 * fullness * (1 - t**2)], 1)
    pen.fill(np.vstack([top, bottom[::-1]]), person.lips)
    inner = np.vstack([upper, lower[::-1]])
    with pen.inside([inner]):
        pen.fill(inner, MOUTH_CAVITY)
        if m.jaw_drop > 0.35:
            x, y = lower[len(lower) // 2]
            pen.fill(oval(x, y + 0.02, 0.6 * abs(upper[0, 0]), 0.09), TONGUE)
        upper_teeth = np.clip(m.lip_corner_puller + m.upper_lip_raiser + 0.7 * m.lip_stretcher, 0, 1)
        edge = upper + np.array((0, 0.085 * upper_teeth))
        pen.fill(np.vstack([upper, edge[::-1]]), TEETH)
        lower_teeth = np.clip(m.lip_tightener + 0.6 * m.lip_stretcher, 0, 1)
        edge = lower - np.array((0, 0.06 * lower_teeth))
        pen.fill(np.vstack([lower, edge[::-1]]), TEETH)
    pen.stroke((upper + lower) / 2 if m.lips_part + m.jaw_drop < 0.3 else upper, shade(person.lips, 0.4), 0.024)
    for side, (x, y) in zip(SIDES, (upper[0], upper[-1]), strict=True):
        hook = m.lip_corner_depressor - m.lip_corner_puller  # AU 15 hangs a line from the corner, AU 12 lifts one
        corner = arc((x, y), (x + side * 0.03, y + 0.03 * hook), (x + side * 0.04, y + 0.09 * hook))
        pen.stroke(corner, shade(person.lips, 0.6), 0.02 * min(1.0, abs(hook)))


def _mouth_opening(person: Person, m: Muscles) -> tuple[Points, Points]:
    """-> the inner edges of the upper and the lower lip, (21, 2) each, from one corner to the other."""
    t = _ACROSS
    smile = m.lip_corner_puller + 0.3 * person.resting_smile
    rounded = m.jaw_drop * max(0.0, 1 - m.lip_corner_puller - m.lip_stretcher)  # a jaw that just drops: an O
    narrowed = 0.22 * m.lip_tightener + 0.38 * rounded
    half_width = person.mouth_width * (1 + 0.35 * m.lip_corner_puller + 0.38 * m.lip_stretcher - narrowed)  # AU 12, 20
    corner = -0.18 * smile + 0.15 * m.lip_corner_depressor + 0.05 * m.lip_stretcher  # AU 12, 15, 20: down is positive
    middle = MOUTH_Y + corner * (t**2 - 0.35)
    middle -= (0.07 * m.upper_lip_raiser + 0.03 * m.chin_raiser) * (1 - t**4)  # AU 10, 17
    squareness = max(m.lip_stretcher, m.lip_tightener, m.upper_lip_raiser)
    profile = 1 - np.abs(t) ** (2 + 4 * squareness)
    raised = (0.03 + 0.04 * m.upper_lip_raiser) * m.lips_part + 0.07 * rounded  # AU 10, 25
    dropped = 0.05 * m.lips_part + 0.26 * m.jaw_drop  # AU 25, 26
    x = half_width * t
    return np.stack([x, middle - raised * profile], 1), np.stack([x, middle + dropped * profile], 1)


def _lids(side: int, person: Person, m: Muscles) -> tuple[Points, Points]:
    """-> upper and lower lid of the eye on one side, (13, 2) each, from the inner corner to the outer."""
    x, width = person.eye_spacing, person.eye_width
    open_up = 1 + 0.75 * m.upper_lid_raiser - 0.4 * m.lid_tightener - 0.65 * m.lid_droop - 0.2 * m.cheek_raiser
    open_down = 1 + 0.15 * m.upper_lid_raiser - 0.45 * m.lid_tightener - 0.7 * m.cheek_raiser
    up, down = (max(0.015, person.eye_opening * value) for value in (0.10 * open_up, 0.062 * open_down))
    inner = (x - width, EYE_Y + 0.015 + 0.02 * m.brow_lowerer)
    outer = (x + width, EYE_Y + 0.03 * m.lid_droop)
    upper = arc(inner, (x + 0.03 * m.brow_lowerer, EYE_Y - up), outer)
    lower = arc(inner, (x, EYE_Y + down), outer)
    return upper * [side, 1], lower * [side, 1]


def _crease(pen: Pen, person: Person, line: Points, depth: float) -> None:
    """A fold of the skin: invisible at depth 0, dark at 1."""
    if depth > 0.15:
        pen.stroke(line, shade(person.skin, 1 - 0.5 * min(depth, 1.0)), 0.024)
