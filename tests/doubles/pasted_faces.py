"""Photographs with many small faces: real faces, scaled down and pasted on a plain background."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from repository import PHOTOS

FACES = {"astronaut": (223, 122, 114), "obama_portrait": (433, 223, 287), "biden_portrait": (257, 175, 190)}
"""Photograph -> centre (x, y) of its face and the height of the face, in pixels."""

SURROUNDINGS = 1.6
"""Side of the pasted square, as a multiple of the height of the face."""


def pasted_faces(width: int, height: int, sides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Paste a face of each height in `sides` on grey -> (height, width, 3) image, (F, 2) centres of the faces.

    The faces are in rows from left to right, with a gap of half a square between them.
    """
    image, centres = np.full((height, width, 3), 120, np.uint8), []
    cell = round(1.5 * SURROUNDINGS * max(sides))
    for number, side in enumerate(sides):
        patch = _face(list(FACES)[number % len(FACES)], round(SURROUNDINGS * side))
        row, column = divmod(number, width // cell)
        top, left = row * cell + cell // 6, column * cell + cell // 6
        image[top : top + len(patch), left : left + len(patch)] = patch
        centres.append((left + len(patch) / 2, top + len(patch) / 2))
    return image, np.array(centres)


def _face(name: str, side: int) -> np.ndarray:
    """Return the square around the face of a photograph, scaled to `side` pixels."""
    x, y, face = FACES[name]
    half = round(SURROUNDINGS * face / 2)
    photograph = cv2.imread(str(PHOTOS / f"{name}.jpg"))
    padded = cv2.copyMakeBorder(photograph, half, half, half, half, cv2.BORDER_REPLICATE)
    square = padded[y : y + 2 * half, x : x + 2 * half]
    return cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)
