"""What is around the face: glasses before it and a background behind it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from iern.train.rendered.camera import Camera
from iern.train.rendered.kit import Floats

SUBPIXEL_BITS = 4
SHARE_WITH_GLASSES = 0.07
AROUND = np.linspace(0, 2 * np.pi, 40)
EAR = (8.3, 3.5)
"""|x| and z of an ear."""
MOST_TURNED = 0.12
"""Yaw, radians, up to which the temple of the far side is seen."""
SKETCH = 64
"""Side, in pixels, of the coarse picture that becomes a blurred background."""


@dataclass(frozen=True)
class Glasses:
    """A pair of glasses."""

    half_width: float
    """Of a lens; all lengths in the kit's units."""
    half_height: float
    colour: Floats
    """(3,) linear red, green, blue."""
    thickness: float
    squareness: float
    """2 is an ellipse; more is nearer a rectangle."""


def draw_glasses(rng: np.random.Generator) -> Glasses | None:
    """-> glasses for few people."""
    worn = rng.random() < SHARE_WITH_GLASSES
    half_width, half_height = rng.uniform(1.9, 2.4), rng.uniform(1.4, 2.0)
    colour, thickness, squareness = rng.uniform(0, 0.08, 3), rng.uniform(0.12, 0.3), rng.uniform(2, 6)
    return Glasses(half_width, half_height, colour.astype(np.float32), thickness, squareness) if worn else None


def put_on_glasses(picture: Floats, glasses: Glasses, eyes: Floats, exposure: float, camera: Camera) -> None:
    """Draw glasses into a picture (H, W, 3) before the eyes (2, 3), the left one first."""
    front = float(eyes[:, 2].mean()) + 2.9
    width = max(1, round(glasses.thickness * camera.pixels_per_unit))
    colour = (glasses.colour * exposure * 0.5 + 0.002).tolist()

    def draw(line: np.ndarray, closed: bool = False) -> None:
        points = np.rint(camera.to_picture(line) * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.polylines(picture, [points], closed, colour, width, cv2.LINE_AA, SUBPIXEL_BITS)

    for side, eye in zip((1, -1), eyes, strict=True):
        draw(_rim(glasses, eye, side, front), closed=True)
        if side * camera.yaw < MOST_TURNED:
            hinge = eye[0] + side * (glasses.half_width + 0.15)
            draw(np.array([(hinge, eye[1], front - 0.3), (side * EAR[0], eye[1] + 0.2, EAR[1])]))
    (left, left_y, _), (right, right_y, _) = eyes
    inner = glasses.half_width - 0.15
    draw(np.array([(left - inner, left_y, front), (0, left_y + 0.2, front + 0.3), (right + inner, right_y, front)]))


def _rim(glasses: Glasses, eye: Floats, side: int, front: float) -> np.ndarray:
    """-> (40, 3) points around a lens, which is bent back at its outer end."""
    power = 2 / glasses.squareness
    across, up = (np.sign(wave) * np.abs(wave) ** power for wave in (np.cos(AROUND), np.sin(AROUND)))
    bent = 0.12 * np.abs(np.cos(AROUND)) * glasses.half_width * (np.sign(np.cos(AROUND)) == side)
    x = eye[0] + side * 0.15 + glasses.half_width * across
    return np.stack([x, eye[1] - 0.35 + glasses.half_height * up, front - bent], 1)


def draw_background(side: int, rng: np.random.Generator) -> Floats:
    """-> (side, side, 3) light of a plain wall, a gradient, or blurred things, some of them grainy."""
    kind = rng.integers(4)
    first, second = _draw_colour(rng), _draw_colour(rng)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    angle = rng.uniform(0, 6.3)
    along = (x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(0.3, 1.5)
    gradient = np.clip(along + 0.5, 0, 1)[..., None]
    if kind == 0:
        return (first * (1 + 0.1 * (gradient - 0.5))).astype(np.float32)
    picture = (first * (1 - gradient) + second * gradient).astype(np.float32)
    if kind > 1:
        picture = _draw_things(picture, rng)
    if kind == 3:
        grain = cv2.GaussianBlur(rng.standard_normal((90, 90)).astype(np.float32), (0, 0), rng.uniform(0.5, 2))
        picture = picture * np.exp(0.25 * cv2.resize(grain, (side, side)))[..., None]
    return np.maximum(picture, np.float32(0.001))


def _draw_colour(rng: np.random.Generator) -> Floats:
    if rng.random() < 0.5:
        colour = np.exp(rng.uniform(-4, 0, 3))
        return (0.45 * colour + 0.55 * colour.mean()).astype(np.float32)
    return (np.exp(rng.uniform(-4, 0.2)) * np.exp(rng.normal(0, 0.1, 3))).astype(np.float32)


def _draw_things(picture: Floats, rng: np.random.Generator) -> Floats:
    """Draw ellipses and rectangles over a picture (side, side, 3), out of focus."""
    sketch = cv2.resize(picture, (SKETCH, SKETCH))
    for _ in range(rng.integers(3, 14)):
        colour = _draw_colour(rng).tolist()
        if rng.random() < 0.5:
            centre, axes = rng.integers(0, SKETCH, 2).tolist(), rng.integers(2, 20, 2).tolist()
            cv2.ellipse(sketch, centre, axes, rng.uniform(0, 180), 0, 360, colour, -1)
        else:
            corner, size = rng.integers(0, SKETCH, 2), rng.integers(2, 30, 2)
            cv2.rectangle(sketch, corner.tolist(), (corner + size).tolist(), colour, -1)
    sketch = cv2.GaussianBlur(sketch, (0, 0), rng.uniform(0.6, 5))
    return cv2.resize(sketch, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
