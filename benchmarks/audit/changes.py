"""The changes to a face in the audit, in grades: light, colour, focus, noise, compression, resolution, pose.

A change acts on the face as the data set holds it, before it is resized to a model's input size. So models of different
input sizes see the same scene, and noise and compression act on the camera's pixels, as in use. So the same noise
affects a face of few pixels more than a face of many, which a model's input averages.

A change's random values (the noise, the direction of a shadow, the sense of a rotation) are drawn once for each face,
from its name, and are the same at every grade: grades differ only in the amount.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.errors import DataError
from iern.runtime.imaging.images import Image
from iern.train.data.degrade import blurred, noisy, rounded

BLUE, RED = 0, 2
LUMINANCE = np.array([0.0722, 0.7152, 0.2126], np.float32)
"""Share of blue, green and red in the luminance of sRGB (ITU-R BT.709)."""


@dataclass(frozen=True)
class Change:
    """One change to a face. Grade 0 is the unchanged face; grade g > 0 has the amount `amounts[g - 1]`."""

    name: str
    unit: str
    amounts: tuple[float, ...]
    apply: Callable[[Image, float, np.random.Generator], Image]
    """(H, W, 3) face, amount, random generator -> (H, W, 3) changed copy."""

    @property
    def what(self) -> str:
        """One sentence that describes the change."""
        return " ".join((self.apply.__doc__ or "").split())

    def grade(self, face: Image, grade: int, name: str) -> Image:
        """(H, W, 3) face -> a copy changed by a grade from 0. The face's `name` seeds the random values."""
        if grade == 0:
            return face.copy()
        digest = hashlib.sha256(f"{self.name}/{name}".encode()).digest()
        return self.apply(face, self.amounts[grade - 1], np.random.default_rng(list(digest)))


def exposure(face: Image, stops: float, rng: np.random.Generator) -> Image:
    """Linear light times 2^stops, through sRGB's curve; values brighter than white are clipped."""
    return _lit(face, np.exp2(np.float32(stops)))


def shadow(face: Image, stops: float, rng: np.random.Generator) -> Image:
    """Light that falls off across the face, by the given stops from one edge to the other, in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    across, down = np.cos(angle), np.sin(angle)
    height, width = face.shape[:2]
    x, y = np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height)[:, None]
    depth = 0.5 + (x * across + y * down) / (abs(across) + abs(down))  # 0 at the lit corner or edge, 1 opposite
    return _lit(face, np.exp2(-stops * depth).astype(np.float32)[..., None])


def warm(face: Image, stops: float, rng: np.random.Generator) -> Image:
    """Red over blue raised by the given stops of linear light; grey keeps its luminance, grey pictures get a tint."""
    gain = np.ones(3, np.float32)
    gain[RED], gain[BLUE] = np.exp2(stops / 2), np.exp2(-stops / 2)
    return _lit(face, gain / (gain @ LUMINANCE))


def cool(face: Image, stops: float, rng: np.random.Generator) -> Image:
    """Blue over red raised by the given stops of linear light; grey keeps its luminance, grey pictures get a tint."""
    return warm(face, -stops, rng)


def blur(face: Image, share: float, rng: np.random.Generator) -> Image:
    """Gaussian blur; its standard deviation is a share of the face's width."""
    return blurred(face, share * face.shape[1])


def noise(face: Image, levels: float, rng: np.random.Generator) -> Image:
    """Gaussian noise of a standard deviation in grey levels of 255, independent for each channel and pixel."""
    return noisy(face, rng.standard_normal(face.shape, np.float32), levels)


def jpeg(face: Image, quality: float, rng: np.random.Generator) -> Image:
    """Compressed as a JPEG of libjpeg's quality, 1 to 100, with colour at half the resolution, and decoded."""
    done, data = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    if not done:
        raise DataError(f"OpenCV cannot make a JPEG of a face of {face.shape}; crop it to at most 65,500 pixels a side")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def resolution(face: Image, pixels: float, rng: np.random.Generator) -> Image:
    """Averaged down to a width in pixels and enlarged again; a face that is no wider is unchanged."""
    height, width = face.shape[:2]
    if width <= pixels:
        return face.copy()
    small = int(pixels), max(1, round(height * pixels / width))
    shrunk = cv2.resize(face, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def rotation(face: Image, degrees: float, rng: np.random.Generator) -> Image:
    """Turned in the picture's plane about its centre, in a random sense; beyond the border, its pixels are repeated."""
    height, width = face.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees * rng.choice((-1, 1)), 1)
    return np.asarray(cv2.warpAffine(face, turn, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)


CHANGES = (
    Change("under-exposure", "stops", (-1, -2, -3, -4), exposure),
    Change("over-exposure", "stops", (0.5, 1, 1.5, 2), exposure),
    Change("shadow", "stops across the face", (1, 2, 3, 4), shadow),
    Change("warm", "stops of red over blue", (0.5, 1, 1.5, 2), warm),
    Change("cool", "stops of blue over red", (0.5, 1, 1.5, 2), cool),
    Change("blur", "sigma, shares of the face's width", (0.01, 0.02, 0.03, 0.04), blur),
    Change("noise", "sigma, grey levels of 255", (10, 20, 30, 40), noise),
    Change("jpeg", "quality", (50, 20, 10, 5), jpeg),
    Change("resolution", "pixels of the face's width", (48, 32, 24, 16), resolution),
    Change("rotation", "degrees", (10, 20, 30, 45), rotation),
)


def _lit(face: Image, gain: NDArray[np.float32] | np.float32) -> Image:
    """(H, W, 3) sRGB face with its linear light multiplied by `gain`, which broadcasts to it."""
    light = np.minimum(LINEAR[face] * gain, 1)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.power(light, 1 / 2.4) - 0.055)
    return rounded(255 * curve)


def _linear(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey levels of sRGB -> linear light, 0 to 1 (IEC 61966-2-1)."""
    values = levels / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)


LINEAR = _linear(np.arange(256, dtype=np.float32))
