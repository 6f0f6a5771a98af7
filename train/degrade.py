"""Degradations of an image as confounder strata, after the paper's toy experiment (Fig. 1): noise, blur, none, dark.

Each is strong enough to be told at a glance, and weak enough that a person still sees the expression.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from iern.runtime.errors import DataError
from iern.runtime.images import Image, as_bgr

BLUR_SIGMA = (0.016, 0.026)
"""standard deviation of the Gaussian, as a share of the image's longer side"""
NOISE_SIGMA = (18.0, 30.0)
"""standard deviation of the noise, grey levels of 255, each channel and pixel for itself"""
DARK_GAIN = (0.28, 0.45)


def degrade(image: Image, stratum: str, rng: np.random.Generator) -> Image:
    """(H, W, 3) uint8 -> a degraded copy; `rng` chooses the strength and the noise.

    Raises DataError for a stratum that is not in DEGRADATIONS.
    """
    if stratum not in DEGRADATIONS:
        raise DataError(f"unknown degradation {stratum!r}; expected one of {', '.join(DEGRADATIONS)}")
    return DEGRADATIONS[stratum](as_bgr(image), rng)


def _noise(image: Image, rng: np.random.Generator) -> Image:
    """Additive Gaussian noise; values that leave 0 to 255 are clipped, as in a camera."""
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(*NOISE_SIGMA))
    return _rounded(image + noise)


def _blur(image: Image, rng: np.random.Generator) -> Image:
    """Gaussian blur; beyond the border the image is mirrored."""
    sigma = max(image.shape[:2]) * rng.uniform(*BLUR_SIGMA)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def _clean(image: Image, rng: np.random.Generator) -> Image:
    return image.copy()


def _dark(image: Image, rng: np.random.Generator) -> Image:
    """Under-exposure: every value times one gain."""
    return _rounded(image * np.float32(rng.uniform(*DARK_GAIN)))


def _rounded(values: np.ndarray) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


DEGRADATIONS: dict[str, Callable[[Image, np.random.Generator], Image]] = {
    "noise": _noise,
    "blur": _blur,
    "clean": _clean,
    "dark": _dark,
}
