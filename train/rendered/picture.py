"""One picture: a person who shows an expression, in a light, before a background, through a camera."""

from __future__ import annotations

import numpy as np

from iern.runtime.imaging.images import Image
from iern.train.rendered.camera import develop, place_camera
from iern.train.rendered.expressions import Contraction
from iern.train.rendered.head import HeadModel, deform
from iern.train.rendered.kit import Floats
from iern.train.rendered.light import draw_lighting, reflect, shadow_of
from iern.train.rendered.materials import Finish, Surface, finish, see
from iern.train.rendered.person import Person
from iern.train.rendered.surroundings import draw_background, put_on_glasses

SIZE = 180
"""Side of a picture, pixels. The head fills most of it, the face a box of 65 to 115 pixels."""


def render(model: HeadModel, person: Person, contraction: Contraction, rng: np.random.Generator) -> Image:
    """-> (SIZE, SIZE, 3) uint8 BGR. Pose, light, background and camera are drawn from `rng`."""
    mesh = deform(model, person.shape, person.eyes, person.hair, contraction)
    camera = place_camera(SIZE, rng)
    surface = see(model, mesh, contraction, camera, person.lashes, int(rng.integers(1 << 31)))
    look = finish(surface, person, contraction, camera)
    lighting = draw_lighting(rng)
    shadow = shadow_of(lighting.lamps[0], model, mesh, surface, camera)
    light = reflect(surface, look, lighting, shadow, camera)
    exposure = _exposure(light, surface, look, rng)
    picture = draw_background(camera.side, rng) * np.float32(exposure * np.exp(rng.normal(-0.6, 0.5)))
    picture.reshape(-1, 3)[surface.pixel] = light * np.float32(exposure)
    if person.glasses is not None:
        put_on_glasses(picture, person.glasses, person.eyes, exposure, camera)
    return develop(picture, SIZE, rng)


def _exposure(light: Floats, surface: Surface, look: Finish, rng: np.random.Generator) -> float:
    """-> the factor of all light. It adapts in part: dark skin stays darker than light skin."""
    face = surface.front & (look.hair < 0.3)
    brightness = float(light[face].mean()) if face.any() else 0.2
    wanted = 0.23 * (max(brightness, 0.02) / 0.35) ** 0.35 * np.exp(rng.normal(0, 0.25))
    return float(wanted / max(brightness, 0.01))
