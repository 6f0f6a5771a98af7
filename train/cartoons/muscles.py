"""Expression -> contracted facial muscles, loosely after the Facial Action Coding System (FACS).

The numbers in the comments are FACS action units (AU). Which units make which expression follows the usual EMFACS
table; how strongly is our own choice, made by looking at the drawings.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from iern.train.network.config import SEVEN_EXPRESSIONS

EXPRESSIONS = SEVEN_EXPRESSIONS
"""Those that can be drawn."""


@dataclass(frozen=True)
class Muscles:
    """How far each action unit is contracted: 0 at rest, 1 fully; the gaze from -1 to 1."""

    inner_brow_raiser: float = 0.0  # AU 1
    outer_brow_raiser: float = 0.0  # AU 2
    brow_lowerer: float = 0.0  # AU 4
    upper_lid_raiser: float = 0.0  # AU 5
    cheek_raiser: float = 0.0  # AU 6
    lid_tightener: float = 0.0  # AU 7
    nose_wrinkler: float = 0.0  # AU 9
    upper_lip_raiser: float = 0.0  # AU 10
    lip_corner_puller: float = 0.0  # AU 12
    lip_corner_depressor: float = 0.0  # AU 15
    chin_raiser: float = 0.0  # AU 17
    lip_stretcher: float = 0.0  # AU 20
    lip_tightener: float = 0.0  # AU 23
    lips_part: float = 0.0  # AU 25
    jaw_drop: float = 0.0  # AU 26
    lid_droop: float = 0.0  # AU 43
    gaze_x: float = 0.0  # AU 61, 62: towards the picture's right
    gaze_y: float = 0.0  # AU 63, 64: down


VARIANTS: dict[str, tuple[Muscles, ...]] = {
    "anger": (
        # lips pressed, or teeth bared
        Muscles(brow_lowerer=1, upper_lid_raiser=0.5, lid_tightener=0.7, lip_tightener=1, chin_raiser=0.4),
        Muscles(
            brow_lowerer=1,
            upper_lid_raiser=0.6,
            lid_tightener=0.7,
            lip_tightener=0.5,
            upper_lip_raiser=0.35,
            lips_part=0.8,
            jaw_drop=0.25,
        ),
    ),
    "disgust": (
        # mouth closed with the lip curled, or open as before retching
        Muscles(
            nose_wrinkler=1,
            upper_lip_raiser=0.9,
            brow_lowerer=0.35,
            lid_tightener=0.6,
            cheek_raiser=0.4,
            lip_corner_depressor=0.6,
            chin_raiser=0.5,
        ),
        Muscles(
            nose_wrinkler=1,
            upper_lip_raiser=1,
            brow_lowerer=0.35,
            lid_tightener=0.6,
            cheek_raiser=0.4,
            lip_corner_depressor=0.4,
            lips_part=0.6,
            jaw_drop=0.15,
        ),
    ),
    "fear": (
        Muscles(
            inner_brow_raiser=1,
            outer_brow_raiser=0.35,
            brow_lowerer=0.4,
            upper_lid_raiser=1,
            lip_stretcher=1,
            lips_part=0.6,
            jaw_drop=0.15,
        ),
        Muscles(
            inner_brow_raiser=1,
            outer_brow_raiser=0.35,
            brow_lowerer=0.4,
            upper_lid_raiser=0.9,
            lip_stretcher=0.8,
            lips_part=0.9,
            jaw_drop=0.45,
        ),
    ),
    "happiness": (
        # smile, or laugh
        Muscles(cheek_raiser=0.8, lip_corner_puller=0.9),
        Muscles(cheek_raiser=1, lip_corner_puller=1, lips_part=0.9, jaw_drop=0.45),
    ),
    "sadness": (
        Muscles(
            inner_brow_raiser=0.9,
            brow_lowerer=0.4,
            lip_corner_depressor=1,
            chin_raiser=0.5,
            lid_droop=0.55,
            gaze_y=0.6,
        ),
        Muscles(inner_brow_raiser=0.7, brow_lowerer=0.3, lip_corner_depressor=0.8, lid_droop=0.75, gaze_y=0.8),
    ),
    "surprise": (
        Muscles(inner_brow_raiser=0.9, outer_brow_raiser=1, upper_lid_raiser=0.8, lips_part=0.7, jaw_drop=1),
        Muscles(inner_brow_raiser=0.8, outer_brow_raiser=1, upper_lid_raiser=0.7, lips_part=0.4, jaw_drop=0.6),
    ),
    "neutral": (Muscles(),),
}

STRENGTH = (0.5, 1.0)
"""Weakest and strongest showing of an expression."""
UNEVENNESS = (0.7, 1.15)
"""Each muscle follows the expression by its own factor."""
TWITCH = 0.08
"""No face is ever quite still: the largest contraction that belongs to no expression."""
GLANCE = 0.45
"""Largest sideways gaze."""


def contract(expression: str, rng: np.random.Generator) -> Muscles:
    """One showing of an expression: a variant of it, weak to strong, with every muscle a little its own way."""
    variants = VARIANTS[expression]
    variant = dataclasses.asdict(variants[rng.integers(len(variants))])
    strength = rng.uniform(*STRENGTH)
    factors = strength * rng.uniform(*UNEVENNESS, len(variant))
    twitches = rng.uniform(0, TWITCH, len(variant))
    values = {
        name: float(np.clip(value * factor + twitch, 0, 1.1))
        for (name, value), factor, twitch in zip(variant.items(), factors, twitches, strict=True)
    }
    return Muscles(**{**values, "gaze_x": float(rng.uniform(-GLANCE, GLANCE))})
