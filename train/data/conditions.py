"""Capture conditions of a face: old grey film, a cold sharp camera, a dim blurred one.

Each is easy to recognise, but a person still sees the expression. Training can draw one for each face (recipe field
`strata`). The camera is then the confounder, whatever the confounder column of the data is.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.imaging.images import Image
from iern.train.data.degrade import degrade, rounded

AS_TAKEN = "as taken"
"""No condition: the face stays as it is."""


def apply_condition(face: Image, condition: str, rng: np.random.Generator) -> Image:
    """(S, S, 3) uint8 BGR -> the face under one of STRATA; `rng` draws strength and noise."""
    return face if condition == AS_TAKEN else CONDITIONS[condition](face, rng)


def draw_condition(face: Image, rng: np.random.Generator) -> tuple[Image, str]:
    """(S, S, 3) uint8 BGR -> the face under a random one of STRATA, and its name."""
    condition = STRATA[rng.integers(len(STRATA))]
    return apply_condition(face, condition, rng), condition


def film(face: Image, rng: np.random.Generator) -> Image:
    """Old grey film: no colour, little contrast, soft, grainy, darker towards the corners."""
    size = face.shape[0]
    grey = cv2.cvtColor(face, cv2.COLOR_BGR2GRAY).astype(np.float32)
    soft = cv2.GaussianBlur(grey, (0, 0), size * rng.uniform(0.008, 0.013))
    flat = 128 + (soft - soft.mean()) * np.float32(rng.uniform(0.65, 0.8))
    # A grain is larger than a pixel, so white noise is blurred, and then scaled to its strength.
    grain = cv2.GaussianBlur(rng.standard_normal(grey.shape, np.float32), (0, 0), 0.6)
    grained = flat + grain / grain.std() * np.float32(rng.uniform(6, 10))
    across = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    vignette = 1 - np.float32(rng.uniform(0.2, 0.3)) * (across[:, None] + across[None, :])
    return rounded(np.repeat((grained * vignette)[:, :, None], 3, axis=2))


def cold(face: Image, rng: np.random.Generator) -> Image:
    """A cheap camera in cold light: bluish, with too much contrast and too sharp edges."""
    pixels = face.astype(np.float32)
    blurred = cv2.GaussianBlur(pixels, (0, 0), face.shape[0] * 0.016)
    sharp = pixels + (pixels - blurred) * np.float32(rng.uniform(1.2, 2.0))
    hard = 128 + (sharp - pixels.mean()) * np.float32(rng.uniform(1.2, 1.5))
    return rounded(hard * _gains(blue=rng.uniform(1.15, 1.3), red=rng.uniform(0.72, 0.85)))


def dim(face: Image, rng: np.random.Generator) -> Image:
    """A moving face in lamplight: blurred, under-exposed, warm, with a sensor's noise."""
    blurred = degrade(face, "blur", rng).astype(np.float32)
    # Set the mean instead of a gain, so that a dark face is still visible.
    dark = blurred * np.float32(rng.uniform(55, 80) / max(blurred.mean(), 1))
    warm = dark * _gains(blue=rng.uniform(0.6, 0.75), red=rng.uniform(1.15, 1.3))
    return rounded(warm + rng.standard_normal(warm.shape, np.float32) * np.float32(rng.uniform(4, 7)))


CONDITIONS: dict[str, Callable[[Image, np.random.Generator], Image]] = {"film": film, "cold": cold, "dim": dim}
STRATA = (AS_TAKEN, *CONDITIONS)
"""The confounder strata when the condition is the confounder."""


def _gains(blue: float, red: float) -> NDArray[np.float32]:
    """-> (3,) white balance: factors of blue, green and red."""
    return np.array((blue, 1, red), np.float32)
