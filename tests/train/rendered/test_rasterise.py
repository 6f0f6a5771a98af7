"""The rasteriser against linear algebra in float64, and against geometry that has a formula."""

import numpy as np
import pytest

from iern.train.rendered.rasterise import NOTHING, interpolate, rasterise, vertex_normals

SIZE = (40, 30)


def random_mesh(seed, vertices=24, triangles=20):
    """Points over the picture and its surroundings, in float32."""
    rng = np.random.default_rng(seed)
    points = rng.uniform((-15, -15, 0.01), (55, 45, 1), (vertices, 3)).astype(np.float32)
    corners = [rng.choice(vertices, 3, replace=False) for _ in range(triangles)]
    return points, np.array(corners, np.int32)


def solved(points, triangles):
    """(T, H, W, 3) barycentric weights of each pixel's centre in each triangle: the solution of a linear system."""
    width, height = SIZE
    y, x = np.mgrid[0:height, 0:width] + 0.5
    places = np.stack([x, y, np.ones_like(x)], -1)
    weights = []
    for triangle in triangles:
        corners = np.vstack([points[triangle, :2].T.astype(np.float64), np.ones(3)])
        weights.append(np.linalg.solve(corners, places.reshape(-1, 3).T).T.reshape(height, width, 3))
    return np.stack(weights)


@pytest.mark.parametrize("seed", range(8))
def test_each_pixel_shows_the_nearest_of_the_triangles_that_cover_its_centre(seed):
    points, triangles = random_mesh(seed)
    nearness, triangle, weights = rasterise(points, triangles, SIZE)
    expected = solved(points, triangles)
    inside = expected.min(-1)
    near = np.where(inside >= 0, (expected * points[triangles, 2][:, None, None]).sum(-1), 0)
    second, first = np.sort(near, 0)[-2:]
    clear = (np.abs(inside) > 1e-5).all(0)  # a centre on an edge may go either way, and so may two at one depth
    clear &= (first == 0) | (first - second > 1e-5)
    assert clear.mean() > 0.98 and (first > 0).mean() > 0.5
    covered = clear & (first > 0)
    np.testing.assert_allclose(nearness[covered], first[covered], rtol=1e-5)
    assert np.array_equal(triangle[covered], near.argmax(0)[covered])
    assert (triangle[clear & ~covered] == NOTHING).all() and (nearness[clear & ~covered] == -np.inf).all()
    chosen = np.take_along_axis(expected, near.argmax(0)[None, ..., None], 0)[0]
    np.testing.assert_allclose(weights[covered], chosen[covered][:, 1:], atol=1e-5)


def test_triangles_of_a_net_leave_no_gap_and_overlap_nowhere():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:8, 0:10].astype(np.float32) * 5
    x[:, 1:-1] += rng.uniform(-1, 1, x[:, 1:-1].shape)
    y[1:-1] += rng.uniform(-1, 1, y[1:-1].shape)
    points = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    index = np.arange(80, dtype=np.int32).reshape(8, 10)
    quads = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], -1).reshape(-1, 4)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    _, together, _ = rasterise(points, triangles, (45, 35))
    assert (together != NOTHING).all()
    alone = [(rasterise(points, triangles[k : k + 1], (45, 35))[1] != NOTHING).sum() for k in range(len(triangles))]
    assert sum(alone) == 45 * 35


def test_attributes_are_those_of_the_point_in_space_behind_the_pixel():
    """A camera in the origin; the point is where the ray through the pixel meets the triangle's plane."""
    corners = np.array([(-4, -3, 8), (5, -2, 20), (0, 6, 11)], np.float64)
    focal = 20
    projected = np.stack(
        [20 + focal * corners[:, 0] / corners[:, 2], 15 + focal * corners[:, 1] / corners[:, 2], 1 / corners[:, 2]], 1
    ).astype(np.float32)
    triangles = np.array([(0, 1, 2)], np.int32)
    nearness, triangle, weights = rasterise(projected, triangles, SIZE)
    rows, columns = np.nonzero(triangle == 0)
    assert len(rows) > 100
    found = interpolate(triangle[rows, columns], weights[rows, columns], projected, triangles, np.float32(corners))
    rays = np.stack([(columns + 0.5 - 20) / focal, (rows + 0.5 - 15) / focal, np.ones(len(rows))], 1)
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    depth = normal @ corners[0] / (rays @ normal)
    np.testing.assert_allclose(found, rays * depth[:, None], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(nearness[rows, columns], 1 / depth, rtol=1e-4)


def test_a_one_sided_triangle_is_drawn_only_counter_clockwise():
    points = np.array([(5, 25, 1), (35, 25, 1), (20, 5, 1)], np.float32)  # rows go down: this is counter-clockwise
    both_ways = np.array([(0, 1, 2), (0, 2, 1)], np.int32)
    for one_sided in (False, True):
        drawn = [(rasterise(points, both_ways[k : k + 1], SIZE, np.array([one_sided]))[1] == 0).sum() for k in range(2)]
        assert drawn[0] > 250
        assert drawn[1] == (0 if one_sided else drawn[0])


@pytest.mark.parametrize("opacity", [0, 51, 204, 255])
def test_a_transparent_triangle_covers_its_share_of_the_pixels_and_the_same_seed_the_same_ones(opacity):
    points = np.array([(-100, -100, 1), (300, -100, 1), (-100, 300, 1)], np.float32)
    triangles = np.array([(0, 2, 1)], np.int32)

    def covered(seed):
        return rasterise(points, triangles, (100, 100), opacity=np.array([opacity], np.uint8), seed=seed)[1] == 0

    assert covered(1).mean() == pytest.approx(opacity / 255, abs=0.02)
    assert np.array_equal(covered(1), covered(1))
    assert opacity in (0, 255) or 0.2 < (covered(1) != covered(2)).mean() < 0.5


def test_the_normals_of_a_sphere_point_away_from_its_centre():
    down, around = np.meshgrid(np.linspace(0.3, np.pi - 0.3, 60), np.linspace(0, 6, 120), indexing="ij")
    unit = np.stack([np.sin(down) * np.sin(around), np.cos(down), np.sin(down) * np.cos(around)], -1)
    index = np.arange(unit[..., 0].size, dtype=np.int32).reshape(down.shape)
    quads = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], -1).reshape(-1, 4)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    normals = vertex_normals((3 * unit + 7).reshape(-1, 3).astype(np.float32), triangles).reshape(unit.shape)
    assert (normals * unit)[1:-1, 1:-1].sum(-1).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, rtol=1e-5)


def test_what_is_behind_an_edge_or_outside_of_the_picture_is_not_drawn():
    points = np.array([(10, 10, 1), (20, 10, 1), (30, 10, 1), (-9, -9, 1), (-5, -9, 1), (-9, -5, 1)], np.float32)
    _, triangle, _ = rasterise(points, np.array([(0, 1, 2), (3, 4, 5)], np.int32), SIZE)
    assert (triangle == NOTHING).all()
