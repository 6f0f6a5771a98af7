"""Light: one to three lamps, the first with shadows, the sky and the ground; and what reaches the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iern.train.rendered.camera import Camera
from iern.train.rendered.head import HeadModel, Mesh
from iern.train.rendered.kit import Floats, Material
from iern.train.rendered.materials import Finish, Surface
from iern.train.rendered.rasterise import rasterise

MAP_SIDE, MAP_SCALE = 288, 9
"""Side in pixels and pixels per unit of the shadow map."""
TOLERANCE = 0.35
"""Height, in the kit's units, below which a surface does not shade itself."""
PENUMBRA = 1.6 * np.array([(-0.9, -0.5), (0.5, -0.9), (0.9, 0.5), (-0.5, 0.9), (0, 0)])
"""(5, 2) places in the shadow map, pixels, whose mean is the softened shadow."""
DEEPEST_SHADOW = 0.12
SKIN_WRAP = np.array([0.30, 0.16, 0.12], np.float32)
"""How far light wraps around skin: red the farthest, since it is scattered below the surface."""
WRAP = np.float32(0.1)
"""And around anything else."""
GROUND_TINT = np.array([1.05, 1, 0.95], np.float32)


@dataclass(frozen=True)
class Lamp:
    """A distant lamp."""

    direction: Floats
    """(3,) unit vector towards it, in the camera's axes."""
    colour: Floats
    """(3,) linear red, green, blue."""


@dataclass(frozen=True)
class Lighting:
    """The light of a scene."""

    lamps: tuple[Lamp, ...]
    sky: Floats
    """(3,) colour of the light from above."""
    ground: Floats
    """(3,) and from below."""
    up: Floats
    """(3,) unit vector to the middle of the sky."""


def draw_lighting(rng: np.random.Generator) -> Lighting:
    """-> a light at random. The first lamp is mostly in front."""
    lamps = tuple(_draw_lamp(first=index == 0, rng=rng) for index in range(rng.integers(1, 4)))
    sky = np.exp(rng.normal(0, 0.08, 3)).astype(np.float32) * np.float32(rng.uniform(0.25, 0.8))
    ground = sky * np.float32(rng.uniform(0.3, 0.9)) * GROUND_TINT
    up = np.array([rng.normal(0, 0.3), 1, rng.uniform(0, 0.8)], np.float32)
    return Lighting(lamps, sky, ground, up / np.linalg.norm(up))


def shadow_of(lamp: Lamp, model: HeadModel, mesh: Mesh, surface: Surface, camera: Camera) -> Floats:
    """-> (N,) the share of the lamp's light that reaches each pixel of the surface past the head itself."""
    across = np.cross(lamp.direction, np.array([0.1, 1, 0.05], np.float32))
    across /= np.linalg.norm(across)
    axes = np.stack([across * MAP_SCALE, np.cross(lamp.direction, across) * MAP_SCALE, lamp.direction], 1)
    middle = np.array([MAP_SIDE / 2, MAP_SIDE / 2, 0], np.float32)
    casting = mesh.triangles[model.materials[: len(mesh.triangles)] != Material.LASH]
    points = (camera.turn(mesh.vertices) @ axes + middle).astype(np.float32)
    height, _, _ = rasterise(points, casting, (MAP_SIDE, MAP_SIDE))
    own = surface.position @ axes + middle
    lit = np.zeros(len(own), np.float32)
    for offset in PENUMBRA:
        column, row = np.clip((own[:, :2] + offset).astype(int), 0, MAP_SIDE - 1).T
        lit += own[:, 2] + TOLERANCE >= height[row, column]
    return DEEPEST_SHADOW + (1 - DEEPEST_SHADOW) * lit / np.float32(len(PENUMBRA))


def reflect(surface: Surface, finish: Finish, lighting: Lighting, shadow: Floats, camera: Camera) -> Floats:
    """-> (N, 3) the light that each pixel sends to the camera. `shadow` is that of the first lamp.

    Wrapped Lambert for what scatters below the surface, and the highlights of Blinn and Phong.
    """
    from_sky = (0.5 + 0.5 * finish.normal @ lighting.up)[:, None]
    around = lighting.ground * (1 - from_sky) + lighting.sky * from_sky
    light = around * np.clip(0.15 + 0.85 * finish.openness, 0, 1)[:, None]
    highlights = np.zeros_like(light)
    to_camera = camera.directions_from(surface.position)
    wrap = np.where((surface.material == Material.SKIN)[:, None], SKIN_WRAP, WRAP)
    for index, lamp in enumerate(lighting.lamps):
        facing = finish.normal @ lamp.direction
        past = shadow if index == 0 else np.ones_like(shadow)
        diffuse = np.maximum((facing[:, None] + wrap) / (1 + wrap), 0)
        light += diffuse * lamp.colour * (past * np.clip(0.5 + 0.6 * finish.openness, 0, 1))[:, None]
        half = lamp.direction + to_camera
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        shine = np.clip((finish.normal * half).sum(1), 0, 1) ** finish.gloss
        highlights += lamp.colour * (shine * finish.specular * past * (facing > -0.1))[:, None]
    eyes = surface.material == Material.EYE
    shine_left = np.where(eyes, np.maximum(finish.shade, 0.3), finish.shade)
    return finish.albedo * light * finish.shade[:, None] + highlights * shine_left[:, None]


def _draw_lamp(first: bool, rng: np.random.Generator) -> Lamp:
    across = rng.normal(0, 0.7) if first else rng.uniform(-1.7, 1.7)
    height = rng.uniform(-0.1, 1.0) if first else rng.uniform(-0.4, 1.0)
    direction = np.array([np.sin(across) * np.cos(height), np.sin(height), np.cos(across) * np.cos(height)], np.float32)
    colour = np.exp(rng.normal(0, 0.07, 3)).astype(np.float32)
    return Lamp(direction, colour * np.float32(rng.uniform(0.7, 1.4) if first else rng.uniform(0.1, 0.7)))
