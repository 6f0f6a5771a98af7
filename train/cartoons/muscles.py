"""Expression -> contracted facial muscles, loosely after the Facial Action Coding System (FACS).

The numbers in the comments are FACS action units (AU). Which units make which expression follows the usual EMFACS
table. How strongly was set by eye on the drawings.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from iern.train.network.config import SEVEN_EXPRESSIONS

EXPRESSIONS = SEVEN_EXPRESSIONS
"""The expressions that can be drawn."""


@dataclass(frozen=True)
class Muscles:
    """Contraction of each action unit: 0 at rest, 1 fully. The gaze is from -1 to 1."""

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
        # lips pressed, or teeth shown
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
        # mouth closed with the lip curled, or open
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
"""Factors of the weakest and the strongest expression."""
MUSCLE_FACTORS = (0.7, 1.15)
"""Limits of the random factor of each muscle."""
MAX_RESTING_CONTRACTION = 0.08
"""Largest contraction that does not come from the expression."""
MAX_GAZE = 0.45
"""Largest gaze to a side."""


def contract(expression: str, rng: np.random.Generator) -> Muscles:
    """-> the muscles of an expression: a random variant and strength, with small random differences of each muscle."""
    variants = VARIANTS[expression]
    variant = dataclasses.asdict(variants[rng.integers(len(variants))])
    strength = rng.uniform(*STRENGTH)
    factors = strength * rng.uniform(*MUSCLE_FACTORS, len(variant))
    resting = rng.uniform(0, MAX_RESTING_CONTRACTION, len(variant))
    values = {
        name: float(np.clip(value * factor + rest, 0, 1.1))
        for (name, value), factor, rest in zip(variant.items(), factors, resting, strict=True)
    }
    return Muscles(**{**values, "gaze_x": float(rng.uniform(-MAX_GAZE, MAX_GAZE))})
