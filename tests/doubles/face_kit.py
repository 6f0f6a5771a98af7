"""A face model with the files and the numbers of vertices of ICT-FaceKit's light model: an egg with a nose and eyes.

All people are this egg, and of the muscles only the jaw moves it. Lips, brows and hair are painted where a face has
them, so that the detector finds one.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from iern.train.rendered.kit import EYE_CENTRES, EYEBALLS, IDENTITIES, LIP_OUTLINE, MESHES, NEUTRAL, SKIN, VERTICES

CENTRE, HALF_AXES = np.array([0, 2, 0]), np.array([8.2, 11.5, 9.5])
LIPS = [(-2.4, -3), (-1.4, -2.5), (-0.5, -2.2), (0, -2.3), (0.5, -2.2), (1.4, -2.5), (2.4, -3)]
LIPS += [(1.6, -3.6), (0.8, -3.9), (0, -4), (-0.8, -3.9), (-1.6, -3.6)]
EYE_RADIUS = 1.2


def write_face_kit(folder: Path, shapes: tuple[str, ...], scale: float = 1) -> Path:
    """Write the meshes as the kit's authors lay them out -> `folder`. At another scale the head is not seen."""
    meshes = folder / MESHES
    meshes.mkdir(parents=True)
    vertices, polygons = face_mesh()
    vertices *= scale
    at_rest = vertex_lines(vertices)
    faces = "".join("f " + " ".join(f"{corner + 1}/1" for corner in polygon) + "\n" for polygon in polygons)
    (meshes / f"{NEUTRAL}.obj").write_text(f"mtllib a.mtl\n{at_rest}vt 0 0\nusemtl M_Face\n{faces}", encoding="utf-8")
    (meshes / f"{IDENTITIES[0]}.obj").write_text(at_rest, encoding="utf-8")
    for name in {*IDENTITIES[1:], *shapes} - {"jawOpen"}:
        os.link(meshes / f"{IDENTITIES[0]}.obj", meshes / f"{name}.obj")
    below = vertices[:, 1] < -3
    (meshes / "jawOpen.obj").write_text(vertex_lines(vertices - np.outer(below, [0, 1, 0.5])), encoding="utf-8")
    return folder


def vertex_lines(vertices: np.ndarray) -> str:
    """(V, 3) -> the lines of an OBJ file."""
    return "".join(f"v {x:.5g} {y:.5g} {z:.5g}\n" for x, y, z in vertices.tolist())


def face_mesh() -> tuple[np.ndarray, list[list[int]]]:
    """-> (V, 3) vertices, polygons of three or four corners. Vertices of other parts are all in the egg's middle."""
    vertices = np.tile(CENTRE.astype(float), (VERTICES, 1))
    in_net = np.setdiff1d(np.arange(SKIN.stop), LIP_OUTLINE)
    polygons = put_globe(vertices, in_net[: 100 * 110], 100, CENTRE, HALF_AXES)
    x, y, z = vertices.T
    z += (z > 5) * 2.5 * np.exp(-((x / 1.3) ** 2) - ((y - 0.5) / 1.8) ** 2)
    vertices[list(LIP_OUTLINE), :2] = LIPS
    for part, centre in zip(EYEBALLS, EYE_CENTRES, strict=True):
        polygons += put_globe(vertices, np.arange(part.start, part.start + 720), 24, np.array(centre), EYE_RADIUS)
    return vertices, polygons


def put_globe(
    vertices: np.ndarray, indices: np.ndarray, rows: int, centre: np.ndarray, half_axes: np.ndarray | float
) -> list[list[int]]:
    """Place the vertices of these indices on an ellipsoid, in rows from its top -> its polygons."""
    net = indices.reshape(rows, -1)
    down, around = np.meshgrid(np.linspace(0, np.pi, rows), np.linspace(0, 2 * np.pi, net.shape[1]), indexing="ij")
    unit = np.stack([np.sin(down) * np.sin(around), np.cos(down), np.sin(down) * np.cos(around)], -1)
    vertices[net] = centre + half_axes * unit
    quads = np.stack([net[:-1, :-1], net[1:, :-1], net[1:, 1:], net[:-1, 1:]], -1).reshape(-1, 4)
    at_the_top = quads[: net.shape[1] - 1, :3]
    return [*at_the_top.tolist(), *quads[net.shape[1] - 1 :].tolist()]
