"""Random changes to training faces: `paper` as published, `webcam` for cameras, rooms and detectors of any kind.

A change is drawn from one NumPy generator, so that a sample depends on its seed alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import InterpolationMode, v2

from iern.runtime.imaging.images import Image
from iern.runtime.imaging.preprocess import Square
from iern.train.data.degrade import rounded

GAMMA = 2.2
"""A pixel value to this power is proportional to light."""
BRIGHTNESS = np.array([0.114, 0.587, 0.299], np.float32)
"""Weights of blue, green and red in the grey level."""

Change = Callable[[Image, np.random.Generator], Image]
"""(S, S, 3) uint8 BGR -> (S, S, 3) uint8 BGR."""
Light = Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]
"""(S, S, 3) float32 BGR, 0 black and 1 white, but not limited to that -> the same."""


@dataclass(frozen=True)
class CropJitter:
    """How far the crop of a face varies from the one that the runtime would cut."""

    turn: float = 12.0
    """Largest turn to either side, degrees."""
    scale: float = 1.17
    """Largest factor of the side, and of its inverse."""
    shift: float = 0.07
    """Largest shift along each axis, in sides."""

    def __call__(self, square: Square, rng: np.random.Generator) -> Square:
        """A square near the given one."""
        return dataclasses.replace(
            square,
            x=square.x + square.side * rng.uniform(-self.shift, self.shift),
            y=square.y + square.side * rng.uniform(-self.shift, self.shift),
            side=square.side * self.scale ** rng.uniform(-1, 1),
            turn=square.turn + np.radians(rng.uniform(-self.turn, self.turn)),
        )


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for a sample: its crop, and then the change of its pixels."""

    crop: CropJitter | None = None
    """None: the crop is always the runtime's."""
    change: Change | None = None


UNCHANGED = Augmentation()


def augmentation(name: str, size: int) -> Augmentation:
    """The augmentation `none`, `paper` or `webcam`, for inputs of size x size pixels."""
    if name not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {name!r}; choose {', '.join(AUGMENTATIONS)}")
    return AUGMENTATIONS[name](size)


def paper(size: int) -> Augmentation:
    """As published, in a random order for each image. The published sizes 256 and 224 become a ratio."""
    enlarge = v2.Resize(round(size * 256 / 224), interpolation=InterpolationMode.BICUBIC, antialias=True)
    shuffled = v2.RandomOrder(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomCrop(size),
            v2.RandomApply([v2.GaussianBlur(5, sigma=(0.1, 1.5))], p=0.5),
            v2.ColorJitter(brightness=(0.8, 1.2), contrast=(0.75, 1.5)),
            v2.RandomAffine(10, translate=(0.2, 0.2), scale=(0.8, 1.2), shear=8),
        ]
    )
    pipeline = v2.Compose([enlarge, shuffled])

    def change(face: Image, rng: np.random.Generator) -> Image:
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
            torch.manual_seed(int(rng.integers(2**62)))
            rgb = pipeline(torch.from_numpy(face).permute(2, 0, 1).flip(0))
        return rgb.flip(0).permute(1, 2, 0).contiguous().numpy()

    return Augmentation(change=change)


def webcam(size: int) -> Augmentation:
    """What cameras, rooms and detectors change: crop, light, colour, focus, noise, codec, size, occlusion."""
    return Augmentation(CropJitter(), webcam_change)


def webcam_change(face: Image, rng: np.random.Generator) -> Image:
    """Mirror a face by chance, and put it under other light and another camera."""
    if rng.random() < 0.5:
        face = face[:, ::-1]
    if rng.random() < 0.35:
        face = cv2.cvtColor(cv2.cvtColor(face, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if rng.random() < 0.75:
        light = face.astype(np.float32) / 255
        for changes in LIGHT:
            light = _one_of(changes, rng)(light, rng)
        face = rounded(255 * light)
    for cameras in CAMERA:
        face = _one_of(cameras, rng)(face, rng)
    return np.ascontiguousarray(face)


def tone(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Another tone curve."""
    return np.power(light.clip(0, 1), np.float32(np.exp(rng.uniform(-0.7, 0.7))))


def contrast(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """More or less contrast and brightness, as other exposures."""
    mean = light.mean()
    return (light - mean) * np.float32(np.exp(rng.uniform(-0.7, 0.45))) + mean + np.float32(rng.uniform(-0.15, 0.15))


def colour_cast(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Warmer or cooler light than the white balance expects, by up to 1.5 stops of red over blue, or greener or pinker.

    The brightness of a grey stays.
    """
    stops = np.array([-0.75, 0, 0.75]) * rng.uniform(-1, 1) + np.array([0, 0.3, 0]) * rng.uniform(-1, 1)
    gains = np.exp2(stops / GAMMA).astype(np.float32)
    return light * (gains / (gains @ BRIGHTNESS))


def saturation(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Paler or stronger colours."""
    grey = (light @ BRIGHTNESS)[:, :, None]
    return np.asarray(grey + (light - grey) * np.float32(rng.uniform(0, 1.8)), np.float32)


def side_light(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Light that falls off in one direction."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8)
    across = np.linspace(-1, 1, len(light), dtype=np.float32)
    fall = np.float32(np.cos(angle)) * across[None, :] + np.float32(np.sin(angle)) * across[:, None]
    return light * (1 + np.float32(strength) * fall).clip(0.1, 2)[:, :, None]


def near_infrared(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A lamp beside a camera for near infrared: no colour, flat, dark towards the border."""
    grey = light @ BRIGHTNESS
    flat: NDArray[np.float32] = grey.mean() + (grey - grey.mean()) * np.float32(rng.uniform(0.5, 1))
    across = np.linspace(-1, 1, len(light), dtype=np.float32) ** 2
    lamp = np.exp(-np.float32(rng.uniform(0.2, 1.2)) * (across[:, None] + across[None, :]))
    return np.repeat((flat * lamp * np.float32(rng.uniform(0.7, 1.6)))[:, :, None], 3, axis=2)


def local_contrast(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Shadows filled and highlights held, as phones do."""
    around = cv2.GaussianBlur(light, (0, 0), len(light) * rng.uniform(0.05, 0.18))
    return light - around * np.float32(rng.uniform(0.3, 0.9)) + np.float32(0.45)


def noise(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A sensor's noise, in each channel by itself or in all alike."""
    channels = 3 if rng.random() < 0.5 else 1
    grains = rng.standard_normal((*light.shape[:2], channels), np.float32)
    return light + grains * np.float32(rng.uniform(0.01, 0.07))


def blur(face: Image, rng: np.random.Generator) -> Image:
    """Out of focus."""
    return np.asarray(cv2.GaussianBlur(face, (0, 0), len(face) * rng.uniform(0.004, 0.02)), np.uint8)


def low_resolution(face: Image, rng: np.random.Generator) -> Image:
    """A distant face: of 0.18 to 0.7 of the size."""
    size = len(face)
    small = max(4, round(size * rng.uniform(0.18, 0.7)))
    enlarge = cv2.INTER_CUBIC if rng.random() < 0.7 else cv2.INTER_LINEAR
    shrunk = cv2.resize(face, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (size, size), interpolation=enlarge), np.uint8)


def sharpen(face: Image, rng: np.random.Generator) -> Image:
    """Edges too sharp, as cheap cameras have them."""
    soft = cv2.GaussianBlur(face, (0, 0), len(face) * 0.013).astype(np.float32)
    return rounded(face + (face - soft) * np.float32(rng.uniform(0.5, 1.8)))


def jpeg(face: Image, rng: np.random.Generator) -> Image:
    """Encoded at a quality from 10 to 80, and decoded."""
    return encoded(face, int(rng.integers(10, 81)))


def encoded(face: Image, quality: int) -> Image:
    """(S, S, 3) uint8 BGR -> as it is after JPEG of a quality."""
    packed = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)


def occlude(face: Image, rng: np.random.Generator) -> Image:
    """A rectangle over a part of the face, of one colour or of noise."""
    size = len(face)
    height, width = rng.integers(size // 11, size // 2, 2)
    top, left = rng.integers(0, size - size // 11, 2)
    covered = face.copy()
    part = covered[top : top + height, left : left + width]
    part[:] = rng.integers(0, 256, 3 if rng.random() < 0.5 else part.shape)
    return covered


def _same(face: NDArray, rng: np.random.Generator) -> NDArray:
    return face


LIGHT: Sequence[Sequence[tuple[float, Light]]] = (
    [(0.6, tone)],
    [(0.6, contrast)],
    [(0.35, colour_cast), (0.1, saturation)],
    [(0.3, side_light), (0.12, near_infrared), (0.08, local_contrast)],
    [(0.15, noise)],
)
"""Of each row at most one change is drawn, by its probability. The rows follow one another."""
CAMERA: Sequence[Sequence[tuple[float, Change]]] = (
    [(0.12, blur), (0.15, low_resolution), (0.07, sharpen)],
    [(0.2, jpeg)],
    [(0.2, occlude)],
)


def _one_of(changes: Sequence[tuple[float, Callable]], rng: np.random.Generator) -> Callable:
    """One of the changes by its probability, or none."""
    drawn = rng.random()
    for probability, change in changes:
        if drawn < probability:
            return change
        drawn -= probability
    return _same


AUGMENTATIONS: dict[str, Callable[[int], Augmentation]] = {
    "none": lambda size: UNCHANGED,
    "paper": paper,
    "webcam": webcam,
}
