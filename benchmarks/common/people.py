"""People who are cut out of pictures and drawn into frames, so that it is known where the faces are."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.imaging.images import Image


@dataclass(frozen=True, eq=False)
class Person:
    """A square picture around one face."""

    picture: Image
    face: float
    """Longer side of the face, as a share of the picture's side."""


@dataclass(frozen=True)
class Pose:
    """Where a face is in a frame."""

    x: float
    """Centre, in pixels."""
    y: float
    size: float
    """Longer side of the face, in pixels."""
    turn: float = 0.0
    """Degrees."""


def person_around(image: Image, x: int, y: int, size: float, surroundings: float) -> Person:
    """Cut the square around a face with this centre and longer side, in pixels.

    Its side is `surroundings` times that of the face. Beyond the picture its border is repeated.
    """
    half = round(surroundings * size / 2)
    padded = cv2.copyMakeBorder(image, half, half, half, half, cv2.BORDER_REPLICATE)
    return Person(padded[y : y + 2 * half, x : x + 2 * half], size / (2 * half))


def paste(canvas: NDArray[np.float32], person: Person, pose: Pose) -> None:
    """Draw the person into the (H, W, 3) canvas. The edge of the picture fades out."""
    picture, side = person.picture, len(person.picture)
    scale = pose.size / (person.face * side)
    while scale < 0.5:  # a linear map of so much larger a picture would skip pixels
        picture = cv2.resize(picture, (side // 2, side // 2), interpolation=cv2.INTER_AREA)
        scale, side = scale * side / (side // 2), side // 2
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), pose.turn, scale)
    matrix[:, 2] += (pose.x - (side - 1) / 2, pose.y - (side - 1) / 2)
    size = canvas.shape[1::-1]
    drawn = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR).astype(np.float32)
    opacity = cv2.warpAffine(_opacity(side), matrix, size)[..., None]
    canvas += opacity * (drawn - canvas)


def smooth_background(rng: np.random.Generator, width: int, height: int, cells: tuple[int, int]) -> Image:
    """(height, width, 3) colours that change slowly over the picture: nothing in them looks like a face.

    `cells` is how many rows and columns of colours are drawn.
    """
    coarse = rng.integers(70, 170, (*cells, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _opacity(side: int) -> NDArray[np.float32]:
    """(side, side): 1 in a disc around the centre, and 0 at the edges, so that no edge shows."""
    line = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    return np.clip((1 - np.hypot(line[:, None], line[None])) / 0.2, 0, 1).astype(np.float32)
