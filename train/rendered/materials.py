"""What the pixels of a picture show: the surface behind each, and how it reflects light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.train.rendered.camera import Camera
from iern.train.rendered.expressions import Contraction
from iern.train.rendered.face_map import TEXELS, sample, sample_texels, smoothstep
from iern.train.rendered.head import HeadModel, Mesh
from iern.train.rendered.kit import EYE_CENTRES, SKIN, VERTICES, Floats, Integers, Material
from iern.train.rendered.person import Person
from iern.train.rendered.rasterise import NOTHING, OPAQUE, interpolate, rasterise
from iern.train.rendered.wrinkles import relief

LOWER_LASHES = 0.3
"""Opacity of the lower lashes over that of the upper ones."""
OPENNESS_OF_LONG_HAIR = 0.75
BUMP = 0.085
"""How far a wrinkle's slope turns the normal."""
MOUTH = np.array([0.175, 0.042, 0.035], np.float32)
GUMS = np.array([0.40, 0.12, 0.11], np.float32)
SOCKET = np.array([0.6, 0.42, 0.42], np.float32)
"""The colour of an eye socket over that of the skin."""
SCLERA = np.array([0.50, 0.46, 0.44], np.float32)
PUPIL = 0.004
EYE = (3.22, 3.611)
"""|x| and y of a pupil in the neutral face."""
IRIS_RADIUS = 0.60
LID = 4.0
"""y of the upper lid at rest."""


@dataclass(frozen=True)
class Surface:
    """What the N pixels show that show a part of the head."""

    pixel: NDArray[np.intp]
    """(N,) index into the flattened picture."""
    material: Integers
    """(N,)."""
    normal: Floats
    """(N, 3) unit vectors in the camera's axes."""
    position: Floats
    """(N, 3) in the camera's axes, from the head's pivot."""
    neutral: Floats
    """(N, 3) where the same point is in the neutral face: textures are looked up there."""
    compression: Floats
    """(N,) of the skin, see `Mesh`."""
    openness: Floats
    """(N,) the share of the light from around that arrives."""

    @property
    def front(self) -> NDArray[np.bool_]:
        """(N,) the skin of the face, without the back of the head."""
        return (self.material == Material.SKIN) & (self.neutral[:, 2] > 2)


@dataclass
class Finish:
    """How the N pixels of a surface reflect light."""

    albedo: Floats
    """(N, 3) linear red, green, blue."""
    specular: Floats
    """(N,) strength of the highlight."""
    gloss: Floats
    """(N,) its sharpness, the exponent of Blinn and Phong."""
    shade: Floats
    """(N,) what is left of all light, inside the mouth and under the lids."""
    openness: Floats
    """(N,) the share of the light from around that arrives."""
    normal: Floats
    """(N, 3) with the wrinkles."""
    hair: Floats
    """(N,) cover of hair, 0 to 1."""


def see(model: HeadModel, mesh: Mesh, contraction: Contraction, camera: Camera, lashes: int, seed: int) -> Surface:
    """-> what the camera sees of a mesh. `seed` is of the lashes, which cover a part of their pixels."""
    turned = camera.turn(mesh.vertices)
    points = camera.project(turned)
    materials = model.materials[: len(mesh.triangles)]
    opacity = np.where(model.lower_lashes[: len(mesh.triangles)], lashes * LOWER_LASHES, lashes)
    _, triangle, weights = rasterise(
        points,
        mesh.triangles,
        (camera.side, camera.side),
        one_sided=materials < Material.LASH,
        opacity=np.where(materials == Material.LASH, opacity, OPAQUE).astype(np.uint8),
        seed=seed,
    )
    pixel = np.flatnonzero(triangle != NOTHING)
    triangle, weights = triangle.reshape(-1)[pixel], weights.reshape(-1, 2)[pixel]
    attributes = np.zeros((len(points), 11), np.float32)
    attributes[:, :3], attributes[:, 3:6] = mesh.normals @ camera.rotation.T, turned
    attributes[:VERTICES, 6:9], attributes[VERTICES:, 6:9] = model.neutral, mesh.vertices[VERTICES:]
    attributes[SKIN, 9] = mesh.compression
    attributes[:VERTICES, 10] = model.openness_under(contraction)
    attributes[VERTICES:, 10] = OPENNESS_OF_LONG_HAIR
    found = interpolate(triangle, weights, points, mesh.triangles, attributes)
    return Surface(
        pixel, materials[triangle], _unit(found[:, :3]), found[:, 3:6], found[:, 6:9], found[:, 9], found[:, 10]
    )


def finish(surface: Surface, person: Person, contraction: Contraction, camera: Camera) -> Finish:
    """-> how the pixels of a person reflect light."""
    count = len(surface.pixel)
    result = Finish(
        albedo=sample(person.albedo, *surface.neutral[:, :2].T),
        specular=np.full(count, 0.18 * person.oil, np.float32),
        gloss=np.full(count, 18, np.float32),
        shade=np.ones(count, np.float32),
        openness=surface.openness.copy(),
        normal=surface.normal,
        hair=np.zeros(count, np.float32),
    )
    _fold_skin(result, surface, person, contraction, camera)
    _cover_with_hair(result, surface, person)
    _dress(result, surface, person)
    _finish_mouth(result, surface, person)
    _finish_eyes(result, surface, person, contraction, camera)
    return result


def _fold_skin(result: Finish, surface: Surface, person: Person, contraction: Contraction, camera: Camera) -> None:
    """Turn the normals along the wrinkles, and darken the wrinkles and the compressed skin."""
    front = surface.front
    x, y = surface.neutral[:, :2].T
    depth = relief(person.wrinkles, contraction)
    slopes = [cv2.Sobel(depth, cv2.CV_32F, *axis, ksize=3) * np.float32(TEXELS / 8) for axis in ((1, 0), (0, 1))]
    bump = np.zeros_like(result.normal)
    bump[:, 0], bump[:, 1] = sample(slopes[0], x, y) * BUMP, sample(slopes[1], x, y) * -BUMP
    bump = bump @ camera.rotation.T
    bump -= result.normal * (result.normal * bump).sum(1, keepdims=True)
    result.normal = _unit(np.where(front[:, None], result.normal + bump, result.normal))
    folds = 0.30 * np.clip(sample(depth, x, y), 0, 2)
    folds += np.clip(surface.compression - 0.04, 0, 0.5) * (1.5 + 0.8 * sample(person.fine, x, y))
    dark = np.exp(-folds)[:, None] ** np.array([0.8, 1.05, 1.05], np.float32)
    result.albedo *= np.where(front[:, None], dark, 1)


def _cover_with_hair(result: Finish, surface: Surface, person: Person) -> None:
    hair = person.hair
    skin, long = surface.material == Material.SKIN, surface.material == Material.HAIR
    x, y, z = surface.neutral.T
    around = np.arctan2(x, z + 2) + hair.curl * 0.05 * np.sin(y * 1.3)
    down = np.where(long, y * 0.9, np.hypot(x, z))
    rows, columns = hair.strands.shape
    strands = sample_texels(
        hair.strands, (around / np.pi * 0.5 + 0.5) * (columns - 1), (down * 1.4 + 20) % (rows - 1), cv2.BORDER_WRAP
    )
    cover = smoothstep(hair.line.depth(surface.neutral) + 0.21 * strands, -0.35, 0.45) * hair.opacity
    result.hair = np.where(long, 1, np.where(skin, cover, 0)).astype(np.float32)
    share = result.hair[:, None]
    colour = hair.colour * np.exp(hair.contrast * strands)[:, None]
    result.albedo = (result.albedo * (1 - share) + colour * share).astype(np.float32)
    result.specular *= 1 - result.hair
    result.albedo[surface.material == Material.LASH] = hair.colour * 0.3


def _dress(result: Finish, surface: Surface, person: Person) -> None:
    """Clothes below the neckline, which is deeper in front."""
    _, y, z = surface.neutral.T
    dressed = (surface.material == Material.SKIN) & (y < person.neckline - (z > 0))
    result.albedo[dressed], result.specular[dressed] = person.clothes, 0


def _finish_mouth(result: Finish, surface: Surface, person: Person) -> None:
    """The inside of the mouth is darker the deeper it is."""
    depth, material = surface.neutral[:, 2], surface.material
    inside = material == Material.MOUTH
    result.albedo[inside] = MOUTH
    near = np.clip(np.clip((depth - 3) / 7, 0.03, 1) * 1.25 - 0.1, 0.06, 1) ** 1.3
    result.shade[inside] = (np.clip(0.25 + surface.openness * 1.2, 0.1, 1) * near)[inside]
    result.albedo[material == Material.SOCKET] = person.skin * SOCKET
    parts = (
        (Material.GUMS, GUMS, 0.45, 18, 0.05 + 0.8 * smoothstep(depth, 8.7, 10.2), 0.65),
        (Material.TEETH, person.teeth, 1.5, 40, 0.06 + 0.86 * smoothstep(depth, 7.6, 9.7), 0.72),
    )
    for part, colour, specular, gloss, shade, openness in parts:
        here = material == part
        result.albedo[here], result.specular[here], result.gloss[here] = colour, specular, gloss
        result.shade[here] = shade[here]
        result.openness[here] = np.maximum(result.openness[here], openness)


def _finish_eyes(result: Finish, surface: Surface, person: Person, contraction: Contraction, camera: Camera) -> None:
    """Sclera, iris and pupil, in the shadow of the upper lid."""
    eye = surface.material == Material.EYE
    x, y, _ = surface.neutral[eye].T
    left = x > 0
    x, y = np.abs(x) - EYE[0], y - EYE[1]
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    sclera = SCLERA * (0.8 + 0.3 * person.tone) * (1 - 0.25 * smoothstep(radius, 0.7, 1.6))[:, None]
    fibres = 1 + 0.35 * np.sin(angle * 17 + radius * 9) + 0.5 * radius / IRIS_RADIUS
    iris = person.iris * (fibres * (1 - 0.75 * smoothstep(radius, 0.47, 0.62)))[:, None]
    in_iris = smoothstep(radius, IRIS_RADIUS + 0.05, IRIS_RADIUS - 0.05)[:, None]
    in_pupil = smoothstep(radius, person.pupil + 0.04, person.pupil - 0.04)[:, None]
    result.albedo[eye] = (sclera * (1 - in_iris) + iris * in_iris) * (1 - in_pupil) + PUPIL * in_pupil
    lids = [LID + 0.35 * contraction.of("eyeWide", side) - 0.9 * contraction.of("eyeBlink", side) for side in "LR"]
    lid = np.where(left, *lids)
    height = camera.turn_back(surface.position[eye])[:, 1] - (person.eyes[:, 1].mean() - EYE_CENTRES[0][1])
    result.shade[eye] = 1 - 0.55 * smoothstep(height, lid - 0.75, lid + 0.1)
    result.openness[eye], result.specular[eye], result.gloss[eye] = 0.8, 0.9, 180


def _unit(vectors: Floats) -> Floats:
    return vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + np.float32(1e-9))
