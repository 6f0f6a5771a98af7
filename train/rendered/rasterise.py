"""Triangles to pixels: a z-buffer, attributes between vertices, and normals. Compiled by Numba at first use.

The centre of the pixel in column i and row j is at (i + 0.5, j + 0.5).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from iern.train.rendered.kit import Floats, Integers

NOTHING = -1
"""Stands for a triangle where a pixel shows none."""
OPAQUE = 255


def rasterise(
    points: Floats,
    triangles: Integers,
    size: tuple[int, int],
    one_sided: NDArray[np.bool_] | None = None,
    opacity: NDArray[np.uint8] | None = None,
    seed: int = 0,
) -> tuple[Floats, Integers, Floats]:
    """-> (H, W) nearness, (H, W) triangle, (H, W, 2) barycentric weights of its second and third vertex.

    `points` (V, 3) are column, row and nearness, which is greater for what hides the rest: 1/depth or a height. `size`
    is (W, H). A `one_sided` (T,) triangle is drawn only if its vertices are counter-clockwise on the screen. A triangle
    with an `opacity` (T,) below 255 covers that share of its pixels, drawn at random from `seed`. A pixel without a
    triangle has the nearness -inf and the triangle -1.
    """
    width, height = size
    nearness = np.full((height, width), -np.inf, np.float32)
    triangle = np.full((height, width), NOTHING, np.int32)
    weights = np.zeros((height, width, 2), np.float32)
    if one_sided is None:
        one_sided = np.zeros(len(triangles), np.bool_)
    if opacity is None:
        opacity = np.full(len(triangles), OPAQUE, np.uint8)
    _fill(points, triangles, one_sided, opacity, np.uint32(seed), nearness, triangle, weights)
    return nearness, triangle, weights


def interpolate(triangle: Integers, weights: Floats, points: Floats, triangles: Integers, attributes: Floats) -> Floats:
    """(N,) triangles, (N, 2) their weights, (V, 3) points whose nearness is 1/depth, (V, A) attributes -> (N, A).

    Perspective-correct: the weight of a vertex on the screen times its 1/depth is that in space, up to a factor.
    """
    corners = triangles[triangle]
    in_space = np.stack([1 - weights.sum(1), weights[:, 0], weights[:, 1]], 1) * points[corners, 2]
    in_space /= in_space.sum(1, keepdims=True)
    return _weighted_sum(corners, in_space.astype(np.float32), attributes)


def vertex_normals(vertices: Floats, triangles: Integers) -> Floats:
    """(V, 3) vertices -> (V, 3) unit normals, the mean of the triangles around a vertex by area."""
    normals = np.zeros(vertices.shape, np.float32)
    _add_normals(vertices, triangles, normals)
    return normals / np.sqrt((normals**2).sum(1, keepdims=True) + np.float32(1e-20))


@njit(cache=True)
def _fill(
    points: Any, triangles: Any, one_sided: Any, opacity: Any, seed: Any, nearness: Any, triangle: Any, weights: Any
) -> None:
    height, width = nearness.shape
    for t in range(len(triangles)):
        a, b, c = triangles[t]
        # Sides from the first vertex, in float64: the products below lose digits.
        ax, ay, az = float(points[a, 0]), float(points[a, 1]), float(points[a, 2])
        bx, by, bz = float(points[b, 0]) - ax, float(points[b, 1]) - ay, float(points[b, 2]) - az
        cx, cy, cz = float(points[c, 0]) - ax, float(points[c, 1]) - ay, float(points[c, 2]) - az
        area = bx * cy - by * cx  # twice the area; rows go down, so it is negative for what faces the viewer
        if area == 0 or (one_sided[t] and area > 0):
            continue
        first_column = max(0, int(np.ceil(ax + min(0, bx, cx) - 0.5)))
        last_column = min(width - 1, int(np.floor(ax + max(0, bx, cx) - 0.5)))
        first_row = max(0, int(np.ceil(ay + min(0, by, cy) - 0.5)))
        last_row = min(height - 1, int(np.floor(ay + max(0, by, cy) - 0.5)))
        for row in range(first_row, last_row + 1):
            y = row + 0.5 - ay
            for column in range(first_column, last_column + 1):
                x = column + 0.5 - ax
                second = (x * cy - y * cx) / area
                third = (bx * y - by * x) / area
                if second < 0 or third < 0 or second + third > 1:
                    continue
                near = az + second * bz + third * cz
                if near <= nearness[row, column]:
                    continue
                if opacity[t] < OPAQUE and _random_byte(row * width + column, t, seed) >= opacity[t]:
                    continue
                nearness[row, column] = near
                triangle[row, column] = t
                weights[row, column, 0] = second
                weights[row, column, 1] = third


@njit(cache=True)
def _random_byte(pixel: Any, triangle: Any, seed: Any) -> Any:
    """A number of 0 to 255 that depends on the three, by an integer hash of 32 bits."""
    bits = np.uint32(pixel * 2654435761 + seed + triangle * 97)
    bits = np.uint32((bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D))
    bits = np.uint32((bits ^ (bits >> np.uint32(15))) * np.uint32(0x846CA68B))
    return (bits ^ (bits >> np.uint32(16))) & np.uint32(255)


@njit(cache=True)
def _weighted_sum(corners: Any, weights: Any, attributes: Any) -> Any:
    """(N, 3) vertices, (N, 3) weights, (V, A) attributes -> (N, A)."""
    result = np.zeros((len(corners), attributes.shape[1]), np.float32)
    for n in range(len(corners)):
        for k in range(3):
            for attribute in range(attributes.shape[1]):
                result[n, attribute] += weights[n, k] * attributes[corners[n, k], attribute]
    return result


@njit(cache=True)
def _add_normals(vertices: Any, triangles: Any, normals: Any) -> None:
    """Add to each vertex the normals of its triangles, whose lengths are twice their areas."""
    for t in range(len(triangles)):
        a, b, c = triangles[t]
        for k in range(3):
            m, n = (k + 1) % 3, (k + 2) % 3
            normal = (vertices[b, m] - vertices[a, m]) * (vertices[c, n] - vertices[a, n]) - (
                vertices[b, n] - vertices[a, n]
            ) * (vertices[c, m] - vertices[a, m])
            normals[a, k] += normal
            normals[b, k] += normal
            normals[c, k] += normal
