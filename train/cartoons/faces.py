"""Draw one cartoon face: an expression on a person, in a pose and a light. No face of a real person is used."""

from __future__ import annotations

import math

import cv2
import numpy as np

from iern.runtime.errors import DataError
from iern.runtime.imaging.images import Image
from iern.train.cartoons.features import (
    EYE_Y,
    INK,
    MOUTH_Y,
    SIDES,
    draw_brows,
    draw_creases,
    draw_eyes,
    draw_mouth,
    draw_nose,
    shade,
)
from iern.train.cartoons.muscles import EXPRESSIONS, Muscles, contract
from iern.train.cartoons.pen import HeadPose, Pen, Points, arc, oval
from iern.train.cartoons.people import Person, person_of

SUPERSAMPLING = 3
SMALLEST, LARGEST = 16, 1024
HAIRLINE = {"cropped": -0.74, "short": -0.66, "parted": -0.66, "long": -0.68, "curly": -0.6, "headscarf": -0.64}


def draw(expression: str, identity_seed: int, sample_seed: int, size: int = 64) -> Image:
    """One of EXPRESSIONS -> (size, size, 3) uint8 BGR; the same arguments give the same bytes.

    `identity_seed` sets the person, `sample_seed` the picture of that person: pose, light, background, and strength of
    the expression. Pictures of two expressions with the same seeds differ only in the muscles, so that pose and
    background are independent of the expression. Raises DataError for an unknown expression or an impossible size.
    """
    if expression not in EXPRESSIONS:
        raise DataError(f"cannot draw the expression {expression!r}; expected one of {', '.join(EXPRESSIONS)}")
    if not SMALLEST <= size <= LARGEST:
        raise DataError(f"cannot draw a face of {size} pixels; expected {SMALLEST} to {LARGEST}")
    person = person_of(identity_seed)
    muscles = contract(expression, np.random.default_rng([identity_seed, 1, sample_seed]))
    scene = np.random.default_rng([identity_seed, 2, sample_seed])
    side = size * SUPERSAMPLING
    pose = _pose(scene, side)
    pen = Pen(_background(scene, side), pose)
    _draw_head(pen, person, muscles)
    picture = cv2.resize(pen.canvas, (size, size), interpolation=cv2.INTER_AREA)
    return _light(picture, scene)


def _pose(rng: np.random.Generator, side: int) -> HeadPose:
    """-> a head of about three quarters of the picture's height, off the middle, tilted and turned."""
    x, y = rng.uniform(-0.04, 0.04, 2)
    return HeadPose(
        centre=(side * (0.5 + x), side * (0.51 + y)),
        scale=side * rng.uniform(0.33, 0.42),
        roll=math.radians(rng.uniform(-9, 9)),
        yaw=math.radians(rng.uniform(-14, 14)),
        pitch=math.radians(rng.uniform(-8, 8)),
    )


def _background(rng: np.random.Generator, side: int) -> Image:
    """-> a smooth gradient between random colours."""
    corners = rng.uniform(20, 235, (1, 1, 3)) + rng.uniform(-45, 45, (2, 2, 3))
    return cv2.resize(np.clip(corners, 0, 255).astype(np.uint8), (side, side), interpolation=cv2.INTER_LINEAR)


def _light(picture: Image, rng: np.random.Generator) -> Image:
    """(H, W, 3) uint8 -> the picture with light from a random side and a random exposure."""
    direction, contrast, exposure = rng.uniform(0, 2 * math.pi), rng.uniform(0.05, 0.4), rng.uniform(0.85, 1.12)
    across = np.linspace(-1, 1, picture.shape[0], dtype=np.float32)
    ramp = across[None, :] * math.cos(direction) + across[:, None] * math.sin(direction)
    gain = exposure * (1 + contrast * np.clip(ramp, -1, 1))
    return np.clip(np.rint(picture * gain[..., None]), 0, 255).astype(np.uint8)


def _draw_head(pen: Pen, person: Person, muscles: Muscles) -> None:
    outline = _outline(person, muscles)
    _draw_behind(pen, person)
    pen.fill(outline, person.skin, flat=True)
    pen.stroke(outline, shade(person.skin, 0.8), 0.02, flat=True, closed=True)
    draw_creases(pen, person, muscles)
    _draw_beard(pen, person, outline)
    draw_nose(pen, person, muscles)
    draw_mouth(pen, person, muscles)
    draw_eyes(pen, person, muscles)
    draw_brows(pen, person, muscles)
    _draw_hair(pen, person, outline)
    if person.glasses:
        _draw_glasses(pen, person)


def _outline(person: Person, muscles: Muscles) -> Points:
    """-> (48, 2) silhouette, clockwise from the top; AU 26 lowers the chin."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, y = np.sin(angle), -np.cos(angle)
    below = np.clip(y, 0, None)
    x = person.face_width * np.sign(x) * np.abs(x) ** 0.85 * (1 - (1 - person.jaw) * below**1.5)
    return np.stack([x, np.where(y > 0, y * (person.chin + 0.13 * muscles.jaw_drop), y)], 1)


def _draw_behind(pen: Pen, person: Person) -> None:
    """Draw what is behind the head: long hair or the scarf's back, neck, shoulders, ears."""
    width = person.face_width
    if person.hair_style == "long":
        back = [(-1.0, 1.5), (-1.2, -0.3), (-0.8, -1.0), (0, -1.15), (0.8, -1.0), (1.2, -0.3), (1.0, 1.5)]
        pen.fill(np.array(back) * [width * 1.08, 1], shade(person.hair, 0.85), flat=True)
    neck = np.array([(-0.33, 0.6), (0.33, 0.6), (0.38, 1.6), (-0.38, 1.6)])
    pen.fill(neck, shade(person.skin, 0.78), flat=True)
    shoulders = np.array([(-0.4, 1.2), (0.4, 1.2), (1.1, 1.4), (1.3, 2.2), (-1.3, 2.2), (-1.1, 1.4)])
    pen.fill(shoulders, person.clothes, flat=True)
    if person.hair_style == "headscarf":
        pen.fill(oval(0, 0.12, 1.2 * width, 1.3), shade(person.clothes, 0.8), flat=True)
        return
    for side in SIDES:
        pen.fill(oval(side * width, 0.03, 0.09, 0.16), shade(person.skin, 0.9), flat=True)


def _draw_beard(pen: Pen, person: Person, outline: Points) -> None:
    skin, hair = np.array(person.skin), np.array(person.hair)
    if person.beard in ("stubble", "full"):
        jaw = outline[(outline[:, 1] > 0.12) & (np.abs(outline[:, 0]) > 0)]
        edge = arc((jaw[-1, 0], jaw[-1, 1]), (0, 0.42), (jaw[0, 0], jaw[0, 1]))
        share = 0.25 if person.beard == "stubble" else 0.9
        blue, green, red = skin + share * (hair - skin)
        pen.fill(np.vstack([jaw, edge]), (blue, green, red), flat=True)
    if person.beard == "goatee":
        pen.fill(oval(0, MOUTH_Y + 0.3, 0.17, 0.15), person.hair)
    if person.beard in ("moustache", "goatee"):
        lip = MOUTH_Y - 0.09
        above = arc((-0.26, lip + 0.04), (0, lip - 0.11), (0.26, lip + 0.04))
        pen.fill(np.vstack([above, arc((0.26, lip + 0.04), (0, lip), (-0.26, lip + 0.04))]), person.hair)


def _draw_hair(pen: Pen, person: Person, outline: Points) -> None:
    style = person.hair_style
    if style == "bald":
        return
    colour = person.clothes if style == "headscarf" else person.hair
    right = outline[:24][outline[:24, 1] < -0.2]
    left = outline[24:][outline[24:, 1] < -0.2]
    dome = np.vstack([left, right]) * [1.06, 1.06 if style == "cropped" else 1.12]
    start, end = (float(dome[0, 0]), float(dome[0, 1])), (float(dome[-1, 0]), float(dome[-1, 1]))
    if style == "fringe":
        hairline = np.array(
            [(0.86 * end[0], -0.3), (0.78 * end[0], -0.5), (0.78 * start[0], -0.5), (0.86 * start[0], -0.3)]
        )
    elif style == "parted":
        hairline = np.vstack([arc(end, (0.5, -0.62), (0.25, -0.84)), arc((0.25, -0.84), (-0.3, -0.6), start)])
    else:
        hairline = arc(end, (0, HAIRLINE[style]), start)
    if style == "curly":
        for x, y in dome[::2]:
            pen.fill(oval(x, y, 0.2, 0.2), colour, flat=True)
    pen.fill(np.vstack([dome, hairline]), colour, flat=True)


def _draw_glasses(pen: Pen, person: Person) -> None:
    for side in SIDES:
        pen.stroke(oval(side * person.eye_spacing, EYE_Y + 0.01, 0.25, 0.2), INK, 0.028, closed=True)
        temple = np.array([(side * (person.eye_spacing + 0.25), EYE_Y), (side * person.face_width, EYE_Y - 0.03)])
        pen.stroke(temple, INK, 0.024)
    inner = person.eye_spacing - 0.25
    pen.stroke(arc((-inner, EYE_Y), (0, EYE_Y - 0.03), (inner, EYE_Y)), INK, 0.024)
