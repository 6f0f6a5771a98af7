"""The people who are drawn: the traits that are the same in every picture of a person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]
"""Blue, green, red, each 0 to 255."""

# The Monk Skin Tone scale, red-green-blue, without its darkest tone, on which drawn lines cannot be seen.
SKIN_TONES = np.array(
    [
        (246, 237, 228),
        (243, 231, 219),
        (247, 234, 208),
        (234, 218, 186),
        (215, 189, 150),
        (160, 126, 86),
        (130, 92, 67),
        (96, 65, 52),
        (58, 49, 42),
    ]
)
HAIR_TONES = np.array([(22, 18, 18), (45, 32, 26), (86, 56, 36), (142, 98, 58), (196, 160, 98), (150, 72, 40)])
GREY_HAIR = np.array((188, 186, 184))
IRIS_TONES = np.array([(52, 34, 24), (92, 62, 36), (84, 104, 62), (74, 112, 150), (112, 122, 126)])
HAIR_STYLES = ("bald", "cropped", "short", "fringe", "parted", "long", "curly", "headscarf")
BEARDS = ("none", "none", "none", "stubble", "moustache", "goatee", "full")


@dataclass(frozen=True)
class Person:
    """A person. Lengths are in face units: 1 is half the height of the face."""

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    clothes: Colour
    hair_style: str
    beard: str
    glasses: bool
    age: float
    """From 0, smooth, to 1, deeply lined."""
    face_width: float
    jaw: float
    """Width of the jaw over that of the cheekbones."""
    chin: float
    """Length from the middle of the face to the chin."""
    brow_thickness: float
    brow_height: float
    eye_spacing: float
    """From the face's middle line to an eye's centre."""
    eye_width: float
    eye_opening: float
    nose_length: float
    nose_width: float
    mouth_width: float
    lip_fullness: float
    resting_smile: float
    """Height of the mouth's corners in a face at rest; negative: they hang down."""
    resting_frown: float
    """Depth of the brows' inner ends in a face at rest; negative: they are high."""


def person_of(identity_seed: int) -> Person:
    """-> the person of a seed, the same in every call. The traits are drawn independently of one another."""
    rng = np.random.default_rng([identity_seed, 0])
    skin = _between(SKIN_TONES, rng.uniform(0, len(SKIN_TONES) - 1))
    age = float(rng.uniform())
    hair = HAIR_TONES[rng.integers(len(HAIR_TONES))] * rng.uniform(0.8, 1.15)
    greyness = np.clip(2 * age - 1.1, 0, 0.9) * rng.uniform()
    hair = hair + (GREY_HAIR - hair) * greyness
    style, beard = str(rng.choice(HAIR_STYLES)), str(rng.choice(BEARDS))
    redness = rng.uniform(0.25, 0.6)
    return Person(
        skin=_bgr(skin),
        hair=_bgr(hair),
        iris=_bgr(IRIS_TONES[rng.integers(len(IRIS_TONES))]),
        lips=_bgr(skin * 0.82 + redness * (np.array((190, 70, 75)) - skin * 0.82)),
        clothes=_bgr(rng.uniform(30, 225, 3)),
        hair_style=style,
        beard="none" if style == "headscarf" else beard,
        glasses=bool(rng.uniform() < 0.25),
        age=age,
        face_width=float(rng.uniform(0.70, 0.86)),
        jaw=float(rng.uniform(0.62, 0.92)),
        chin=float(rng.uniform(0.95, 1.12)),
        brow_thickness=float(rng.uniform(0.045, 0.095)),
        brow_height=float(rng.uniform(-0.03, 0.03)),
        eye_spacing=float(rng.uniform(0.31, 0.38)),
        eye_width=float(rng.uniform(0.15, 0.19)),
        eye_opening=float(rng.uniform(0.8, 1.15)),
        nose_length=float(rng.uniform(0.30, 0.42)),
        nose_width=float(rng.uniform(0.10, 0.18)),
        mouth_width=float(rng.uniform(0.25, 0.33)),
        lip_fullness=float(rng.uniform(0.035, 0.075)),
        resting_smile=float(rng.uniform(-0.2, 0.2)),
        resting_frown=float(rng.uniform(-0.2, 0.2)),
    )


def _between(scale: np.ndarray, position: float) -> np.ndarray:
    """(n, 3) colours and a position from 0 to n - 1 -> (3,), linear between neighbours."""
    lower = min(int(position), len(scale) - 2)
    return scale[lower] + (position - lower) * (scale[lower + 1] - scale[lower])


def _bgr(rgb: np.ndarray) -> Colour:
    red, green, blue = (float(value) for value in np.clip(rgb, 0, 255))
    return blue, green, red
