"""The face model that is rendered: the light model of USC ICT-FaceKit, read as its authors distribute it.

Lengths are in the model's units, about a centimetre. x points to the subject's left, y up, z to the viewer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iern.runtime.errors import DataError

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]

SOURCE = "https://github.com/USC-ICT/ICT-FaceKit"
MESHES = "FaceXModel"
"""Folder of the meshes in a checkout."""
NEUTRAL = "generic_neutral_mesh"
IDENTITIES = tuple(f"identity{index:03d}" for index in range(100))
"""Principal components of the shapes of scanned people, to be weighted by standard normal numbers."""

VERTICES = 26719
FACE = slice(0, 9409)
SKIN = slice(0, 11248)
"""Vertices of face, head and neck."""
LIP_OUTLINE = (5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841)
"""Vertices around the lips, in order."""
EYEBALLS = (slice(21451, 23021), slice(23021, 24591))
"""Vertices of the left and of the right eyeball."""
EYE_CENTRES = ((3.145, 3.606, 8.03), (-3.145, 3.606, 8.03))
"""Their centres in the neutral face."""


class Material(IntEnum):
    """What a triangle is made of."""

    SKIN = 0
    MOUTH = 1
    GUMS = 2
    TEETH = 3
    EYE = 4
    LASH = 5
    SOCKET = 6
    HAIR = 7
    """Long hair, which is not a part of the kit."""


# The first and the last vertex, after the table of the kit's README. Corneas, tear fluid and the blending and occluding
# meshes around the eyes are left out: they need transparency.
PARTS = (
    (0, 11247, Material.SKIN),
    (11248, 13293, Material.MOUTH),
    (13294, 14061, Material.SOCKET),
    (14062, 17038, Material.GUMS),
    (17039, 21450, Material.TEETH),
    (21451, 22220, Material.EYE),
    (23021, 23790, Material.EYE),
    (25351, 26718, Material.LASH),
)
LOWER_LASHES = ((25693, 26034), (26377, 26718))
"""The first and the last vertex of the lashes of a lower lid."""


@dataclass(frozen=True)
class Kit:
    """The meshes that are rendered. They have the same V = 26719 vertices."""

    neutral: Floats
    """(V, 3) vertices of the neutral face."""
    quads: Integers
    """(Q, 4) vertices of each polygon, counter-clockwise from outside. A triangle has its third vertex twice."""
    shapes: dict[str, Floats]
    """Shape of the face, such as `jawOpen` or `browDown_L` -> (V, 3) displacements."""
    identities: Floats
    """(100, V, 3) displacements."""


def read_kit(folder: Path, shapes: Iterable[str]) -> Kit:
    """Read the neutral face, the identities and the named shapes from a checkout of the kit or its folder of meshes.

    Raises DataError if a file is missing, cannot be read or has other vertices than the light model.
    """
    if (folder / MESHES).is_dir():
        folder = folder / MESHES
    neutral, quads = _vertices_and_quads(folder / f"{NEUTRAL}.obj")
    return Kit(
        neutral=neutral,
        quads=quads,
        shapes={name: _vertices(folder / f"{name}.obj") - neutral for name in shapes},
        identities=np.stack([_vertices(folder / f"{name}.obj") - neutral for name in IDENTITIES]),
    )


def materials_of_vertices() -> Integers:
    """(V,) the Material of each vertex; -1 for those that are not rendered."""
    materials = np.full(VERTICES, -1, np.int32)
    for first, last, material in PARTS:
        materials[first : last + 1] = material
    return materials


def _vertices(path: Path) -> Floats:
    """-> (V, 3), the lines `v x y z` of an OBJ file."""
    return _parse_vertices(path, _lines(path))


def _vertices_and_quads(path: Path) -> tuple[Floats, Integers]:
    """-> (V, 3) vertices and (Q, 4) polygons of an OBJ file."""
    lines = _lines(path)
    return _parse_vertices(path, lines), _parse_quads(path, lines)


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); expected a mesh of ICT-FaceKit's light model, "
            f"download the whole kit from {SOURCE}"
        ) from error


def _parse_vertices(path: Path, lines: list[bytes]) -> Floats:
    words = b" ".join(line[2:] for line in lines if line.startswith(b"v ")).split()
    try:
        vertices = np.array(words, np.float64)
    except ValueError as error:
        raise DataError(f"{path}: has a vertex that is not three numbers ({error}); download the kit again") from error
    if len(vertices) != 3 * VERTICES or not np.isfinite(vertices).all():
        raise DataError(
            f"{path}: has {len(vertices) / 3:g} vertices, expected the {VERTICES} of ICT-FaceKit's light model; "
            f"download that from {SOURCE}"
        )
    return vertices.reshape(VERTICES, 3).astype(np.float32)


def _parse_quads(path: Path, lines: list[bytes]) -> Integers:
    polygons = [[word.split(b"/")[0] for word in line[2:].split()] for line in lines if line.startswith(b"f ")]
    try:
        quads = np.array([corners if len(corners) == 4 else [*corners, corners[2]] for corners in polygons], np.int32)
        quads = quads.reshape(-1, 4) - 1
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: has a polygon that is no triangle or quadrangle; download the kit again") from error
    if not len(quads) or quads.min() < 0 or quads.max() >= VERTICES:
        raise DataError(f"{path}: expected polygons of its {VERTICES} vertices; download the kit again")
    return quads
