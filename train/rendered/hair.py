"""The hair of a person: where it grows on the scalp, how thick it is, and the curtain of long hair around the head."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from iern.train.rendered.face_map import smoothstep
from iern.train.rendered.kit import SKIN, Floats, Integers

COLOURS = np.array(
    [
        (0.008, 0.006, 0.005),
        (0.02, 0.012, 0.008),
        (0.05, 0.026, 0.014),
        (0.12, 0.062, 0.028),
        (0.30, 0.18, 0.075),
        (0.22, 0.07, 0.025),
        (0.30, 0.29, 0.28),
        (0.6, 0.58, 0.55),
    ],
    np.float32,
)
"""Linear red, green, blue: black, three browns, blond, red, grey, white."""
WITH_DARK_SKIN = (0.75, 0.2, 0, 0, 0, 0, 0.05, 0)
YOUNG = (0.13, 0.2, 0.25, 0.17, 0.18, 0.07, 0, 0)
OLD = (0.1, 0.17, 0.22, 0.16, 0.13, 0.06, 0.1, 0.06)
"""Shares of the colours."""

STYLES = ("short", "cap", "long", "bald", "fringe")
WOMEN = (0.12, 0.28, 0.52, 0.02, 0.06)
MEN = (0.38, 0.36, 0.06, 0.12, 0.08)
"""Shares of the styles."""
THICKNESS = {"short": (0.1, 0.5), "cap": (0.5, 2.0), "long": (0.4, 1.4), "bald": (0, 0), "fringe": (0.5, 1.5)}
"""Style -> least and greatest height of the hair above the scalp."""

STRANDS_SIZE = (64, 1024)
"""Rows and columns of a texture of strands."""
CURTAIN_ROWS, CURTAIN_COLUMNS = 40, 72
CURTAIN_VERTICES = CURTAIN_ROWS * CURTAIN_COLUMNS
CURTAIN_TOP = 10.5


@dataclass(frozen=True)
class Hairline:
    """Where hair grows on the head of the neutral face. Its front is a curve y(x)."""

    height: float
    """y of the front in the middle."""
    recession: float
    """How much higher the front is at the temples."""
    side: float
    """z behind which hair grows at the sides."""
    low: float
    """y above which it grows there."""
    bend: float
    """The front's curvature: it falls by this times x^2."""
    parting: float
    """x from which combed hair falls to both sides."""
    fall: float
    """How steeply it falls from there, with the sign of a rise."""
    wave: float
    """The height of the waves of the front."""
    phase: float
    """Their phase, radians."""

    def depth(self, points: Floats) -> Floats:
        """(N, 3) points of the neutral face -> (N,) how far inside the hair they are; negative outside."""
        x, y, z = points.T
        from_middle = np.abs(x)
        temples = self.recession * np.exp(-(((from_middle - 4) / 1.8) ** 2))
        waves = self.wave * np.sin(x * 1.3 + self.phase)
        front = y - (self.height - self.bend * x * x + temples - self.fall * np.abs(x - self.parting) + waves)
        sides = np.minimum(np.minimum((self.side - z) * 1.2, y - self.low), from_middle - 4)
        back = np.minimum(-1.6 - z, y + 5)
        hair = np.maximum(np.maximum(np.minimum(front, 3), sides), back)
        ears = np.exp(-(((y - 1.8) / 3.6) ** 4 + ((z + 0.3) / 3.0) ** 4)) * smoothstep(from_middle, 6.9, 7.6)
        return hair - 6 * ears * (z > -3.2)


@dataclass(frozen=True)
class Hair:
    """The hair of a person."""

    colour: Floats
    """(3,) linear red, green, blue."""
    line: Hairline
    opacity: float
    """From 0, bald, to 1."""
    strands: Floats
    """Texture of the strands, with mean 0 and variance 1."""
    contrast: float
    """How much lighter and darker the strands are, as the exponent of their texture."""
    curl: float
    """From 0, straight, to 1.5."""
    displacement: Floats
    """(S, 3) what the hair adds to the S vertices of the skin."""
    curtain: Floats | None
    """(CURTAIN_VERTICES, 3) the vertices of long hair. None if there is none."""


def hair_colour(tone: float, age: float, rng: np.random.Generator) -> Floats:
    """-> (3,) a colour for the tone of the skin, from 0, dark, and the age, both up to 1."""
    shares = WITH_DARK_SKIN if tone < 0.5 else OLD if age > 0.5 else YOUNG
    return COLOURS[rng.choice(len(COLOURS), p=shares)] * np.exp(rng.normal(0, 0.15)).astype(np.float32)


def draw_strands(rng: np.random.Generator) -> Floats:
    """-> STRANDS_SIZE, grey levels of strands that run down, with mean 0 and variance 1."""
    strands = cv2.GaussianBlur(rng.standard_normal(STRANDS_SIZE).astype(np.float32), (0, 0), 0.7)
    strands = cv2.GaussianBlur(strands, (1, 15), 0)
    return (strands - strands.mean()) / strands.std()


def draw_hair(
    neutral: Floats,
    shape: Floats,
    colour: Floats,
    strands: list[Floats],
    female: bool,
    age: float,
    rng: np.random.Generator,
) -> Hair:
    """(V, 3) neutral vertices and those of a person -> hair of a random style."""
    style = str(rng.choice(STYLES, p=WOMEN if female else MEN))
    line = _draw_hairline(style, female, age, rng)
    thickness = rng.uniform(*THICKNESS[style])
    texture = strands[rng.integers(len(strands))]
    contrast = rng.uniform(0.15, 0.5)
    curl = rng.uniform(0, 1.5) if rng.random() < 0.4 else 0
    displacement = _lift(neutral[SKIN], line, thickness, curl, rng)
    opacity = 1.0 if style != "bald" else 0.0 if rng.random() < 0.5 else rng.uniform(0.2, 0.6)
    curtain = None
    if style == "long" or (style == "fringe" and female):
        widening = np.ptp(shape[SKIN, 0]) / np.ptp(neutral[SKIN, 0])
        curtain = _draw_curtain(float(widening), thickness, curl, rng)
    return Hair(colour, line, opacity, texture, contrast, curl, displacement, curtain)


def curtain_quads(first: int) -> Integers:
    """-> (Q, 4) the polygons of the curtain, whose vertices begin at the index `first`."""
    index = np.arange(CURTAIN_VERTICES, dtype=np.int32).reshape(CURTAIN_ROWS, CURTAIN_COLUMNS) + first
    return np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], -1).reshape(-1, 4)


def _draw_hairline(style: str, female: bool, age: float, rng: np.random.Generator) -> Hairline:
    height = rng.uniform(9.3, 10.8) + (0 if female else rng.uniform(0, 1.2) * age)
    recession = 0 if female else rng.uniform(0, 1.8) * age
    if style == "fringe":
        height, recession = rng.uniform(7.4, 8.8), 0
    bend, parting, fall, wave, phase = rng.uniform(0.02, 0.06), 0.0, 0.0, rng.uniform(0, 0.35), rng.uniform(0, 6)
    if style in ("long", "cap") and rng.random() < 0.6:  # combed from a parting
        bend, parting = rng.uniform(0, 0.02), rng.choice([0, 0, rng.uniform(-3.5, 3.5)])
        fall, wave, phase = rng.uniform(0.15, 0.65), rng.uniform(0, 0.3), rng.uniform(0, 6)
        height += rng.uniform(0.4, 1.2)
    side, low = rng.uniform(1.2, 2.8), rng.uniform(-1, 3.5)
    return Hairline(height, recession, side, low, bend, float(parting), fall, wave, phase)


def _lift(skin: Floats, line: Hairline, thickness: float, curl: float, rng: np.random.Generator) -> Floats:
    """(S, 3) vertices -> (S, 3) displacements away from the middle of the skull."""
    outwards = skin - np.array([0, 4.5, 0], np.float32)
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    cover = smoothstep(line.depth(skin), -0.1, 2.5)
    waves = 0.25 * np.sin(skin[:, 0] * 1.7 + rng.uniform(0, 6)) + rng.normal(0, 0.08 + curl / 6, len(skin))
    return (outwards * (cover * thickness * (1 + waves))[:, None]).astype(np.float32)


def _draw_curtain(widening: float, thickness: float, curl: float, rng: np.random.Generator) -> Floats:
    """-> (CURTAIN_VERTICES, 3) a tube around the head that is open in front. Its edges hang over the cheeks or not."""
    gap = 0.6 + thickness * 0.6  # to the head
    open_to = (rng.uniform(62, 82), rng.uniform(62, 82))  # degrees from the front, left and right
    y = np.linspace(CURTAIN_TOP, rng.uniform(-22, -4), CURTAIN_ROWS)
    hanging = np.clip(-y - 4, 0, 20)
    left, right = (
        edge + rng.normal(0, 2) * np.sin(y * 0.4 + phase) + hanging * rng.uniform(-1.8, 1.2)
        for edge, phase in zip(open_to, (0, 1), strict=True)
    )
    around = np.linspace(0, 1, CURTAIN_COLUMNS)[None]
    angle = np.radians(left[:, None] + (360 - right - left)[:, None] * around)
    dome = np.sqrt(np.clip(1 - ((y - 3) / (11.3 + gap)) ** 2, 0.02, 1))
    radius = np.where(y > 3, dome, 1 + rng.uniform(-0.01, 0.02) * (3 - y))[:, None]
    ripples = np.sin(around * CURTAIN_COLUMNS * 0.9 + rng.uniform(0, 6))
    curls = 0.02 * curl * np.sin(y[:, None] * 1.1 + 54 * around)
    radius = radius * (1 + (0.02 if curl else 0.015) * ripples + curls)
    x = (8.3 + gap) * radius * np.sin(angle) * widening
    z = -0.6 + (8.4 + gap) * radius * np.cos(angle)
    curtain = np.stack([x, np.broadcast_to(y[:, None], x.shape), z], -1).reshape(-1, 3).astype(np.float32)
    return curtain + rng.normal(0, 0.05, curtain.shape).astype(np.float32)
