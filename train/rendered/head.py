"""The head: what all people share, and the mesh of one person under contracted muscles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iern.train.rendered.camera import rotation
from iern.train.rendered.expressions import Contraction
from iern.train.rendered.face_map import Noise, Regions, regions_of, smoothstep
from iern.train.rendered.hair import Hair, curtain_quads, draw_strands
from iern.train.rendered.kit import (
    EYEBALLS,
    FACE,
    LOWER_LASHES,
    SKIN,
    VERTICES,
    Floats,
    Integers,
    Kit,
    Material,
    materials_of_vertices,
)
from iern.train.rendered.rasterise import rasterise, vertex_normals

TEXTURES_SEED = 7
"""Of the noise and the strands, which are cut out at random places for each person."""
STRAND_TEXTURES = 3
OPEN_JAW = 0.8
"""Contraction of `jawOpen` for the second openness."""
DIRECTIONS, MAP_SIDE, MAP_SCALE = 96, 256, 7
"""For the openness: directions, and the side in pixels and the pixels per unit of the height map of each."""
TOLERANCE = 0.35
"""Height, in the kit's units, below which a surface does not hide itself."""
CONVERGENCE = 0.03
"""How far each eye is turned to the nose, radians."""
MOST_COMPRESSED = 0.6


@dataclass(frozen=True)
class HeadModel:
    """What the heads of all people share. V vertices of the kit, S of them skin; T triangles."""

    neutral: Floats
    """(V, 3)."""
    identities: Floats
    """(100, V, 3) displacements."""
    shapes: dict[str, Floats]
    """Name -> (V, 3) displacements."""
    triangles: Integers
    """(T, 3) vertices. Those of long hair come last; their vertices follow the V."""
    materials: Integers
    """(T,) of the triangles."""
    lower_lashes: NDArray[np.bool_]
    """(T,) which triangles are lashes of a lower lid."""
    edges: Integers
    """(E, 2) pairs of vertices of the skin."""
    openness: Floats
    """(2, V) the share of the light from around that arrives, with the mouth closed and open."""
    regions: Regions
    noise: Noise
    strands: list[Floats]

    def openness_under(self, contraction: Contraction) -> Floats:
        """-> (V,) the share of the light from around that arrives, by how far the mouth is open."""
        share = np.float32(min(contraction.of("jawOpen") / OPEN_JAW, 1))
        return self.openness[0] * (1 - share) + self.openness[1] * share


@dataclass(frozen=True)
class Mesh:
    """A head under contracted muscles."""

    vertices: Floats
    """(V, 3), or (V + C, 3) with the C vertices of long hair."""
    triangles: Integers
    """(T', 3) those of the model, without those of long hair if there is none."""
    normals: Floats
    """(V or V + C, 3), unit vectors."""
    compression: Floats
    """(S,) by which share the edges around a vertex of the skin have become shorter."""


def head_model(kit: Kit) -> HeadModel:
    """Prepare a kit, once for all pictures. It takes about a second."""
    materials = materials_of_vertices()
    quads = kit.quads[(materials[kit.quads] >= 0).all(1)]
    own, hair = _triangles(quads), _triangles(curtain_quads(VERTICES))
    triangles = np.concatenate([own, hair])
    rng = np.random.default_rng(TEXTURES_SEED)
    return HeadModel(
        neutral=kit.neutral,
        identities=kit.identities,
        shapes=_strengthen_brows(kit),
        triangles=triangles,
        materials=np.concatenate([_materials_of(own, materials), np.full(len(hair), Material.HAIR, np.int32)]),
        lower_lashes=np.any([(triangles[:, 0] >= a) & (triangles[:, 0] <= b) for a, b in LOWER_LASHES], axis=0),
        edges=_skin_edges(quads),
        openness=np.stack([_openness(v, own) for v in (kit.neutral, kit.neutral + OPEN_JAW * kit.shapes["jawOpen"])]),
        regions=regions_of(kit.neutral),
        noise=Noise(rng),
        strands=[draw_strands(rng) for _ in range(STRAND_TEXTURES)],
    )


def deform(model: HeadModel, shape: Floats, eyes: Floats, hair: Hair, contraction: Contraction) -> Mesh:
    """(V, 3) vertices of a person at rest, (2, 3) centres of the eyes -> the mesh under contracted muscles."""
    vertices = shape + weighted_sum(list(contraction.weights.values()), [model.shapes[n] for n in contraction.weights])
    _turn_eyes(vertices, eyes, contraction.gaze)
    compression = _compression(model.edges, shape, vertices)
    vertices[SKIN] += hair.displacement
    triangles = model.triangles
    if hair.curtain is None:
        triangles = triangles[model.materials != Material.HAIR]
    else:
        vertices = np.concatenate([vertices, hair.curtain])
    return Mesh(vertices, triangles, vertex_normals(vertices, triangles), compression)


def weighted_sum(weights: np.ndarray | list[float], displacements: np.ndarray | list[Floats]) -> Floats:
    """(K,) weights, (K, V, 3) displacements -> (V, 3).

    One after the other: a matrix product would copy the displacements first, and its rounding depends on the threads.
    """
    total = np.zeros((VERTICES, 3), np.float32)
    for weight, displacement in zip(weights, displacements, strict=True):
        total += np.float32(weight) * displacement
    return total


def _strengthen_brows(kit: Kit) -> dict[str, Floats]:
    """-> the shapes, with more motion of the brows' inner ends: the scans' is too little for a frown or for sadness."""
    x, y, z = kit.neutral.T
    face = np.zeros(len(kit.neutral), bool)
    face[FACE] = True
    shapes = dict(kit.shapes)
    for side, sign in (("L", 1), ("R", -1)):
        near = np.exp(-(((x * sign - 1.7) / 1.5) ** 2) - ((y - 5.7) / 1.5) ** 2)
        near *= smoothstep(x * sign, -0.6, 0.6) * smoothstep(y, 4.0, 5.0) * (z > 7) * face
        for name, displacement in (("browDown", (-0.16, -0.38, 0.12)), ("browInnerUp", (-0.10, 0.30, 0.06))):
            outwards, up, forward = displacement
            more = near[:, None] * np.array([sign * outwards, up, forward], np.float32)
            shapes[f"{name}_{side}"] = shapes[f"{name}_{side}"] + more
    return shapes


def _triangles(quads: Integers) -> Integers:
    """(Q, 4) -> (T, 3). A quad whose third vertex is there twice is one triangle."""
    real = quads[:, 2] != quads[:, 3]
    return np.ascontiguousarray(np.concatenate([quads[:, [0, 1, 2]], quads[real][:, [0, 2, 3]]]), np.int32)


def _materials_of(triangles: Integers, materials: Integers) -> Integers:
    """(T, 3) triangles, (V,) materials -> (T,). Where skin meets the mouth or an eye socket it belongs to these."""
    lowest, highest = materials[triangles].min(1), materials[triangles].max(1)
    inwards = (lowest == Material.SKIN) & ((highest == Material.MOUTH) | (highest == Material.SOCKET))
    return np.where(inwards, highest, lowest)


def _skin_edges(quads: Integers) -> Integers:
    """(Q, 4) -> (E, 2), each edge of the skin once."""
    edges = np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])
    edges = edges[(edges < SKIN.stop).all(1) & (edges[:, 0] != edges[:, 1])]
    return np.unique(np.sort(edges, 1), axis=0)


def _turn_eyes(vertices: Floats, eyes: Floats, gaze: tuple[float, float]) -> None:
    """Turn the eyeballs in place to the gaze."""
    for part, centre, inwards in zip(EYEBALLS, eyes, (-CONVERGENCE, CONVERGENCE), strict=True):
        turn = rotation(gaze[0] + inwards, -gaze[1], 0)
        vertices[part] = (vertices[part] - centre) @ turn.T + centre


def _compression(edges: Integers, shape: Floats, vertices: Floats) -> Floats:
    """-> (S,) the mean over the edges around each vertex of the skin, from 0 to MOST_COMPRESSED."""
    before, after = (np.linalg.norm(v[edges[:, 0]] - v[edges[:, 1]], axis=1) for v in (shape, vertices))
    shorter = np.clip((before - after) / np.maximum(before, 1e-4), 0, MOST_COMPRESSED)
    ends = edges.ravel()
    total = np.bincount(ends, np.repeat(shorter, 2), SKIN.stop)
    return (total / np.maximum(np.bincount(ends, minlength=SKIN.stop), 1)).astype(np.float32)


def _openness(vertices: Floats, triangles: Integers) -> Floats:
    """-> (V,) ambient occlusion: the share of the light from around, by its angle and more from above, that arrives.

    A vertex is lit from a direction if no triangle is higher in the height map along it.
    """
    normals = vertex_normals(vertices, triangles)
    arrived, total = np.zeros(len(vertices), np.float32), np.zeros(len(vertices), np.float32)
    for direction in _directions():
        across = np.cross(direction, np.array([0.3, 1, 0.2], np.float32))
        across /= np.linalg.norm(across)
        axes = np.stack([across * MAP_SCALE, np.cross(direction, across) * MAP_SCALE, direction], 1)
        points = (vertices @ axes + np.array([MAP_SIDE / 2, MAP_SIDE / 2, 0])).astype(np.float32)
        height, _, _ = rasterise(points, triangles, (MAP_SIDE, MAP_SIDE))
        column, row = np.clip(points[:, :2].astype(int), 0, MAP_SIDE - 1).T
        light = np.maximum(normals @ direction, 0) * (0.6 + 0.4 * max(direction[1], 0))
        arrived += light * (points[:, 2] >= height[row, column] - TOLERANCE)
        total += light
    return (arrived / np.maximum(total, 1e-6)).astype(np.float32)


def _directions() -> Floats:
    """-> (DIRECTIONS, 3) unit vectors, evenly over the sphere: a spiral of the golden angle."""
    y = 1 - 2 * (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS
    angle, radius = np.arange(DIRECTIONS) * 2.399963, np.sqrt(1 - y * y)
    return np.stack([radius * np.cos(angle), y, radius * np.sin(angle)], 1).astype(np.float32)
