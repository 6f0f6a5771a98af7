"""The people who are rendered: what is the same in every picture of a person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iern.train.rendered.expressions import rest
from iern.train.rendered.hair import Hair, draw_hair, hair_colour
from iern.train.rendered.head import HeadModel, weighted_sum
from iern.train.rendered.kit import EYE_CENTRES, EYEBALLS, IDENTITIES, Floats
from iern.train.rendered.skin import Painter, skin_colour
from iern.train.rendered.surroundings import Glasses, draw_glasses
from iern.train.rendered.wrinkles import ROWS, draw_wrinkles

SHAPE_DEVIATION = 0.8
"""Of the weights of the identities. At 1, that of the scans, a few heads are deformed."""
EYES = np.array(
    [
        (0.035, 0.016, 0.007),
        (0.08, 0.04, 0.015),
        (0.05, 0.02, 0.01),
        (0.10, 0.09, 0.04),
        (0.10, 0.17, 0.28),
        (0.16, 0.24, 0.24),
    ],
    np.float32,
)
"""Colours of an iris: three browns, hazel, blue, grey."""
BROWN_EYES = 3
LIGHT_SKIN = 0.55
"""Tone of the skin above which eyes may be other than brown."""
TEETH = np.array([0.72, 0.68, 0.58], np.float32)


@dataclass(frozen=True)
class Person:
    """A person. Colours are linear red, green and blue."""

    shape: Floats
    """(V, 3) vertices of the face at rest, without contracted muscles."""
    eyes: Floats
    """(2, 3) centres of the left and the right eyeball."""
    tone: float
    """Of the skin, from 0, dark, to 1, light."""
    skin: Floats
    """(3,) its mean colour."""
    at_rest: dict[str, float]
    """Contraction of the shapes in the person's resting face."""
    albedo: Floats
    """Texture over the neutral face, see `face_map`, with three colours."""
    wrinkles: dict[str, Floats]
    """See `draw_wrinkles`."""
    fine: Floats
    """(ROWS, WIDTH) noise of the skin that is seen where it is compressed."""
    hair: Hair
    iris: Floats
    pupil: float
    """Its radius."""
    lashes: int
    """Opacity of the upper ones, up to 255."""
    oil: float
    """How much the skin shines, up to 1."""
    glasses: Glasses | None
    clothes: Floats
    neckline: float
    """y below which the clothes cover the chest."""
    teeth: Floats


def draw_person(model: HeadModel, rng: np.random.Generator) -> Person:
    """-> a person at random."""
    shape = model.neutral + weighted_sum(SHAPE_DEVIATION * rng.standard_normal(len(IDENTITIES)), model.identities)
    moved = [(shape[part] - model.neutral[part]).mean(0) for part in EYEBALLS]
    female = bool(rng.random() < 0.5)
    age = rng.beta(1.3, 1.8)
    tone = rng.uniform()
    skin = skin_colour(tone, rng)
    colour_of_hair = hair_colour(tone, age, rng)
    at_rest = rest(rng)
    painter = Painter(skin, tone, colour_of_hair, model.regions, model.noise, rng)
    _paint(painter, female)
    wrinkles = draw_wrinkles(0.35 + age + rng.uniform(-0.1, 0.15), model.noise, rng)
    fine = (model.noise(4, rng) * 0.5 + model.noise(1.5, rng) * 0.3)[:ROWS]
    hair = draw_hair(model.neutral, shape, colour_of_hair, model.strands, female, age, rng)
    iris = EYES[rng.integers(len(EYES) if tone > LIGHT_SKIN else BROWN_EYES)] * np.float32(np.exp(rng.normal(0, 0.2)))
    return Person(
        shape=shape,
        eyes=np.array(EYE_CENTRES, np.float32) + np.stack(moved),
        tone=tone,
        skin=skin,
        at_rest=at_rest,
        albedo=painter.albedo,
        wrinkles=wrinkles,
        fine=fine,
        hair=hair,
        iris=iris,
        pupil=rng.uniform(0.16, 0.28),
        lashes=int(rng.uniform(60, 170) if female else rng.uniform(20, 80)),
        oil=rng.uniform(0.1, 1.0),
        glasses=draw_glasses(rng),
        clothes=_clothes(rng),
        neckline=rng.uniform(-13.5, -10.5),
        teeth=TEETH * np.float32(rng.uniform(0.75, 1.1)),
    )


def _paint(painter: Painter, female: bool) -> None:
    painter.paint_skin()
    painter.paint_lips(female)
    if female and painter.rng.random() < 0.4:
        painter.paint_eyeliner()
    if not female:
        painter.paint_beard()
    painter.paint_brows(female)


def _clothes(rng: np.random.Generator) -> Floats:
    """-> (3,) a colour, or a grey."""
    if rng.random() < 0.5:
        return np.exp(rng.uniform(-4, -0.4, 3)).astype(np.float32)
    return np.full(3, np.exp(rng.uniform(-4, -0.3)), np.float32)
