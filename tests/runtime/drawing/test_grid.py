"""The picture of several sources: tiles do not overlap, pictures keep their aspect, faces stay on their pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from iern.runtime.drawing.grid import ASPECTS, Tile, darken_tile, draw_grid, draw_tile, empty_grid, tiles_of
from iern.runtime.faces.face import Face
from iern.runtime.imaging.detection import Detection


@pytest.mark.parametrize("count", range(2, 18))
@pytest.mark.parametrize("size", [(480, 640), (720, 1280), (1280, 720), (100, 900)])
def test_tiles_are_equal_do_not_overlap_and_cover_at_least_half_of_the_grid(count, size):
    tiles = tiles_of(count, np.zeros((*size, 3), np.uint8))
    canvas = empty_grid(tiles)
    for tile in tiles:
        canvas[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
    assert canvas.max() == 1
    assert canvas[..., 0].mean() >= 0.5
    assert len({(tile.width, tile.height) for tile in tiles}) == 1
    assert not tiles[0].width % 2 and not tiles[0].height % 2, "two pixels of a recording share a colour"
    assert ASPECTS[0] - 0.01 <= tiles[0].height / tiles[0].width <= ASPECTS[1] + 0.01


@pytest.mark.parametrize("size", [(120, 160), (90, 400), (400, 90), (300, 300)])
def test_a_picture_keeps_its_aspect_and_its_faces_their_place(size):
    """A disc stays round, and the box that was around it is around it in the grid."""
    picture, centre, radius = np.zeros((*size, 3), np.uint8), (size[1] // 2, size[0] // 2), 30
    cv2.circle(picture, centre, radius, (255, 255, 255), cv2.FILLED)
    box = Detection(centre[0] - 30, centre[1] - 30, 61, 61, np.tile(np.array(centre, float), (5, 1)))
    tile = Tile(322, 10, 318, 238)
    canvas = np.zeros((480, 640, 3), np.uint8)
    (face,) = draw_tile(canvas, tile, picture, [Face(box, {"happy": 1.0}, 0.0)])
    rows, columns = np.nonzero(canvas[..., 0] > 127)
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert left >= tile.left and top >= tile.top
    assert right <= tile.left + tile.width and bottom <= tile.top + tile.height
    assert right - left == pytest.approx(bottom - top, abs=2)
    found = face.detection
    assert (found.x, found.y) == pytest.approx((left, top), abs=2)
    assert (found.width, found.height) == pytest.approx((right - left, bottom - top), abs=2)
    assert found.landmarks[0] == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=2)


def test_everything_is_drawn_inside_its_tile_and_an_old_picture_is_dark():
    tiles = [Tile(0, 0, 320, 240, "front", "15.0 fps", faces=1), Tile(320, 0, 320, 240, "back", "lost")]
    grid = np.full((240, 640, 3), 100, np.uint8)
    face = Face(Detection(250, 80, 60, 80), {"happy": 0.9, "sad": 0.1}, 0.0)
    drawn = draw_grid(grid, tiles, [face], "2 sources")
    alone = draw_grid(grid, tiles, [], "")
    with_face = draw_grid(grid, [tiles[0], tiles[1]], [face], "")
    assert (grid == 100).all(), "the grid itself is not drawn on"
    assert (drawn[:, :320] != grid[:, :320]).any()
    np.testing.assert_array_equal(with_face[:, 320:], alone[:, 320:])
    assert (alone[200:, 320:] != 100).any(), "a tile has a caption"
    assert not np.array_equal(alone[200:, :320], alone[200:, 320:]), "of its own source"
    darken_tile(grid, tiles[1])
    assert grid[:, 320:].max() < 50 and grid[:, :320].min() == 100


def test_the_mirror_image_of_a_tile_is_as_far_from_the_other_edge():
    assert Tile(0, 5, 300, 200).mirrored(640) == Tile(340, 5, 300, 200)
