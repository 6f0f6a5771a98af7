"""Textures over the neutral face, seen from the front: their frame, the regions of the face, and noise.

A texture has TEXELS per unit of length and shows x from -10 to 10 and y from 15 down to -16. A point of the head takes
its texture from where it is in the neutral face, so that textures move with the skin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from iern.train.rendered.kit import LIP_OUTLINE, Floats

TEXELS = 24
LEFT, TOP = -10, 15
WIDTH, HEIGHT = 20 * TEXELS, 31 * TEXELS

X, Y = np.meshgrid(
    ((np.arange(WIDTH) + 0.5) / TEXELS + LEFT).astype(np.float32),
    (TOP - (np.arange(HEIGHT) + 0.5) / TEXELS).astype(np.float32),
)
"""(HEIGHT, WIDTH) the place of each texel in the neutral face."""

GRAINS = (1.5, 4, 12, 40, 120)
"""Sizes of the noise's grains, texels."""


@dataclass(frozen=True)
class Regions:
    """(HEIGHT, WIDTH) textures from 0 to about 1: how much a texel belongs to a region of the face."""

    lips: Floats
    cheeks: Floats
    nose: Floats
    under_eyes: Floats
    lids: Floats
    eyeliner: Floats
    beard: Floats
    moustache: Floats
    goatee: Floats


def regions_of(neutral: Floats) -> Regions:
    """(V, 3) vertices of the neutral face -> its regions."""
    lips = blur(_polygon(neutral[list(LIP_OUTLINE), :2]), 2.2)
    not_lips = 1 - np.clip(lips * 1.4, 0, 1)
    above_lips = blob(0, -1.85, 2.6, 0.62)
    below = smoothstep(-Y + 0.09 * X * X - 1.2, 0, 2.2) * smoothstep(Y, -10.5, -8.0) * smoothstep(np.abs(X), 8.6, 7.0)
    beside = smoothstep(-Y, 3.0, 5.0) + smoothstep(np.abs(X), 3.4, 5.0) * smoothstep(-Y, 0.2, 2.5)
    beard = np.maximum(below * np.clip(beside, 0, 1), np.clip(above_lips * 1.2, 0, 1))
    moustache = np.clip(above_lips * 1.56, 0, 1) * not_lips
    return Regions(
        lips=lips,
        cheeks=blobs(4.3, -0.2, 1.8, 1.6),
        nose=blob(0, 0.4, 1.2, 1.0),
        under_eyes=blobs(3.1, 2.0, 1.5, 0.55),
        lids=blobs(3.2, 4.25, 1.6, 0.5),
        eyeliner=np.clip(blobs(3.2, 3.75, 1.75, 0.3), 0, 1),
        beard=np.clip(beard, 0, 1) * not_lips,
        moustache=moustache,
        goatee=np.clip(np.maximum(blob(0, -6.3, 1.9, 1.6) * 1.4, moustache), 0, 1) * not_lips,
    )


class Noise:
    """Textures of noise with mean 0 and variance 1. They are made once, and cut out at random places."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._textures = {grain: [_noise(2 * HEIGHT, 2 * WIDTH, grain, rng) for _ in range(2)] for grain in GRAINS}

    def __call__(self, grain: float, rng: np.random.Generator) -> Floats:
        """-> (HEIGHT, WIDTH) noise with grains of one of the sizes GRAINS."""
        texture = self._textures[grain][rng.integers(2)]
        top, left = rng.integers(HEIGHT), rng.integers(WIDTH)
        patch = texture[top : top + HEIGHT, left : left + WIDTH]
        patch = patch[::-1] if rng.random() < 0.5 else patch
        return np.ascontiguousarray(patch[:, ::-1] if rng.random() < 0.5 else patch)


def texels(points: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
    """(..., 2) x and y in the neutral face -> (..., 2) column and row, from the texture's corner."""
    points = np.asarray(points, float)
    return np.stack([(points[..., 0] - LEFT) * TEXELS, (TOP - points[..., 1]) * TEXELS], -1)


def sample(texture: Floats, x: Floats, y: Floats) -> Floats:
    """(H, W) or (H, W, C) texture, (N,) x and y in the neutral face -> (N,) or (N, C), linear between texels."""
    return sample_texels(texture, (x - LEFT) * TEXELS - 0.5, (TOP - y) * TEXELS - 0.5, cv2.BORDER_REPLICATE)


def sample_texels(texture: Floats, columns: Floats, rows: Floats, border: int) -> Floats:
    """(H, W) or (H, W, C) texture, (N,) places with 0 at the centre of the first texel -> (N,) or (N, C)."""
    count, width = len(columns), 512  # cv2.remap takes no image wider than 32767, and no empty one
    places = np.zeros((2, (count // width + 1) * width), np.float32)
    places[0, :count], places[1, :count] = columns, rows
    found = cv2.remap(texture, *places.reshape(2, -1, width), cv2.INTER_LINEAR, borderMode=border)
    return found.reshape(-1, *texture.shape[2:])[:count]


def smoothstep(value: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """0 at `low`, 1 at `high`, and smooth between them: 3t^2 - 2t^3."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def blur(texture: Floats, sigma: float) -> Floats:
    """A Gaussian blur; `sigma` in texels."""
    return cv2.GaussianBlur(texture, (0, 0), sigma)


def blob(x: float, y: float, width: float, height: float) -> Floats:
    """(HEIGHT, WIDTH) a soft ellipse: 1 at its centre, 1/e at its half-axes."""
    return np.exp(-(((X - x) / width) ** 2) - ((Y - y) / height) ** 2)


def blobs(x: float, y: float, width: float, height: float) -> Floats:
    """The same on both sides of the face."""
    return blob(x, y, width, height) + blob(-x, y, width, height)


def _polygon(points: np.ndarray) -> Floats:
    """(n, 2) corners -> (HEIGHT, WIDTH), 1 inside."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [np.rint(texels(points) * 8).astype(np.int32)], 255, cv2.LINE_AA, 3)
    return mask.astype(np.float32) / np.float32(255)


def _noise(height: int, width: int, grain: float, rng: np.random.Generator) -> Floats:
    coarse = rng.standard_normal((max(2, int(height / grain)), max(2, int(width / grain)))).astype(np.float32)
    noise = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return noise / noise.std()
