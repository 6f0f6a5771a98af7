"""Degradations of an image as confounder strata, after the paper's toy experiment (Fig. 1): noise, blur, clean, dark.

Each is easy to recognise, but a person still sees the expression.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.errors import DataError
from iern.runtime.imaging.images import Image, as_bgr

BLUR_SIGMA = (0.016, 0.026)
"""Standard deviation of the Gaussian, as a share of the longer side of the image."""
NOISE_SIGMA = (18.0, 30.0)
"""Standard deviation of the noise in grey levels of 255, independent in each channel and pixel."""
DARK_GAIN = (0.28, 0.45)
"""Factor of all values."""


def degrade(image: Image, stratum: str, rng: np.random.Generator) -> Image:
    """(H, W, 3) uint8 -> a degraded copy; `rng` draws strength and noise.

    Raises DataError for a stratum that is not in DEGRADATIONS.
    """
    if stratum not in DEGRADATIONS:
        raise DataError(f"unknown degradation {stratum!r}; expected one of {', '.join(DEGRADATIONS)}")
    return DEGRADATIONS[stratum](as_bgr(image), rng)


def noisy(image: Image, normal: NDArray[np.float32], sigma: float) -> Image:
    """(H, W, 3) image and (H, W, 3) standard normal numbers -> image with noise of `sigma` grey levels, clipped."""
    return rounded(image + normal * np.float32(sigma))


def blurred(image: Image, sigma: float) -> Image:
    """(H, W, 3) -> blurred by a Gaussian of `sigma` pixels; the border mirrors the image."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def rounded(values: np.ndarray) -> Image:
    """Any numbers -> the nearest grey levels, 0 to 255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _noise(image: Image, rng: np.random.Generator) -> Image:
    normal = rng.standard_normal(image.shape, np.float32)
    return noisy(image, normal, rng.uniform(*NOISE_SIGMA))


def _blur(image: Image, rng: np.random.Generator) -> Image:
    return blurred(image, max(image.shape[:2]) * rng.uniform(*BLUR_SIGMA))


def _clean(image: Image, rng: np.random.Generator) -> Image:
    return image.copy()


def _dark(image: Image, rng: np.random.Generator) -> Image:
    """Under-exposure: all values times one gain."""
    return rounded(image * np.float32(rng.uniform(*DARK_GAIN)))


DEGRADATIONS: dict[str, Callable[[Image, np.random.Generator], Image]] = {
    "noise": _noise,
    "blur": _blur,
    "clean": _clean,
    "dark": _dark,
}
