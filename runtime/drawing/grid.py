"""A grid of pictures of several sources: where each is, its caption, and its faces in the grid's pixels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from iern.runtime.drawing.lettering import DARK, MIN_LINE_HEIGHT, draw_text, text_width, wrap
from iern.runtime.drawing.overlay import draw
from iern.runtime.faces.face import Face
from iern.runtime.imaging.images import Image

WIDTH = 1280
"""Pixels of a grid."""
ASPECTS = (9 / 16, 3 / 4)
"""Least and largest height of a tile, in units of its width."""

CAPTION_SHARE = 0.04
"""Height of a line of a caption, as a share of the tile's shorter side."""


@dataclass(frozen=True)
class Tile:
    """A part of the grid, in pixels, and what it shows."""

    left: int
    top: int
    width: int
    height: int
    source: str = ""
    """The name of its source."""
    state: str = ""
    """The rate of the source, or what is wrong with it, in words."""
    faces: int = 0
    """The number of its faces. Those of the grid are in the order of the tiles."""

    def mirrored(self, width: int) -> Tile:
        """The tile in the mirror image of a grid of that width."""
        return dataclasses.replace(self, left=width - self.left - self.width)


def tiles_of(count: int, picture: Image) -> list[Tile]:
    """`count` equal tiles, row by row, with sides that are even numbers, for pictures with about that one's aspect."""
    columns = math.ceil(math.sqrt(count))
    aspect = min(max(picture.shape[0] / picture.shape[1], ASPECTS[0]), ASPECTS[1])
    width = WIDTH // columns // 2 * 2
    height = round(width * aspect / 2) * 2
    places = [divmod(number, columns) for number in range(count)]
    return [Tile(column * width, row * height, width, height) for row, column in places]


def empty_grid(tiles: Sequence[Tile]) -> Image:
    """(H, W, 3) black picture with room for the tiles."""
    right, bottom = (max(ends) for ends in zip(*((t.left + t.width, t.top + t.height) for t in tiles), strict=True))
    return np.zeros((bottom, right, 3), np.uint8)


def draw_tile(canvas: Image, tile: Tile, picture: Image, faces: Sequence[Face]) -> list[Face]:
    """Draw the picture into its tile, as large as its aspect allows -> its faces, in the pixels of the grid."""
    height, width = picture.shape[:2]
    scale = min(tile.width / width, tile.height / height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = tile.left + (tile.width - inner[0]) // 2, tile.top + (tile.height - inner[1]) // 2
    canvas[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = 0
    place = canvas[top : top + inner[1], left : left + inner[0]]
    if inner == (width, height):
        place[:] = picture
    else:
        cv2.resize(picture, inner, dst=place, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    factor = inner[0] / width, inner[1] / height
    return [_moved(face, factor, (left, top)) for face in faces]


def darken_tile(canvas: Image, tile: Tile) -> None:
    """Show that the picture of the tile is an old one."""
    part = canvas[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
    part[:] = part // 3


def draw_grid(grid: Image, tiles: Sequence[Tile], faces: Sequence[Face], status: str, strata: bool = False) -> Image:
    """(H, W, 3) grid -> a copy with everything drawn, each face inside its tile. The status is in the first tile.

    `status` and `strata`: see `iern.runtime.drawing.overlay.draw`.
    """
    canvas, first = grid.copy(), 0
    line = max(MIN_LINE_HEIGHT, round(CAPTION_SHARE * min(tiles[0].width, tiles[0].height)))
    for tile in tiles:
        part = canvas[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
        inside = [_moved(face, (1.0, 1.0), (-tile.left, -tile.top)) for face in faces[first : first + tile.faces]]
        part[:] = draw(part, inside, "" if tile is not tiles[0] else status, strata)
        first += tile.faces
        _draw_caption(part, tile, line)
    return canvas


def _draw_caption(part: Image, tile: Tile, line: int) -> None:
    """Draw the name and the state of the source at the lower left of its tile, and a line around the tile."""
    cv2.rectangle(part, (0, 0), (tile.width - 1, tile.height - 1), DARK, 1)
    width = tile.width - line
    texts = wrap([_shortened(f"{tile.source}:", width, line), *tile.state.split(" ")], width, line, " ")
    for number, text in enumerate(reversed(texts)):
        draw_text(part, text, line // 2, tile.height - line // 2 - number * 3 * line // 2, line)


def _shortened(text: str, width: int, line: int) -> str:
    """The text, without its beginning if that is too wide: the end of an address says more."""
    start = next((at for at in range(len(text)) if text_width(_without(text, at), line) <= width), len(text))
    return _without(text, start)


def _without(text: str, start: int) -> str:
    return f"...{text[start:]}" if start else text


def _moved(face: Face, factor: tuple[float, float], corner: tuple[int, int]) -> Face:
    """The face in a picture that was scaled by the factors and then put at that corner."""
    found = face.detection
    scale, shift = np.array(factor), np.array(corner, float)
    x, y = np.array((found.x, found.y)) * scale + shift
    width, height = np.array((found.width, found.height)) * scale
    landmarks = None if found.landmarks is None else found.landmarks * scale + shift
    moved = dataclasses.replace(
        found, x=float(x), y=float(y), width=float(width), height=float(height), landmarks=landmarks
    )
    return dataclasses.replace(face, detection=moved)
