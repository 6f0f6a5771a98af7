"""Random changes to training faces, on torchvision's transforms: `paper` as published, `webcam` for any camera."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

GAMMA = 2.2
"""A pixel value to this power is proportional to light."""
BRIGHTNESS = torch.tensor([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the grey level."""

Augmentation = Callable[[Tensor], Tensor]
"""(S, S, 3) uint8 BGR -> (S, S, 3) uint8 BGR, drawing from torch's global generator."""


def augmentation(name: str, size: int) -> Augmentation | None:
    """The augmentation `none` (None), `paper` or `webcam`, for inputs of size x size pixels."""
    if name == "none":
        return None
    if name not in PIPELINES:
        raise ValueError(f"unknown augmentation {name!r}; choose none, {', '.join(PIPELINES)}")
    pipeline = PIPELINES[name](size)
    return lambda face: pipeline(face.permute(2, 0, 1).flip(0)).flip(0).permute(1, 2, 0).contiguous()


def paper(size: int) -> v2.Transform:
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
    return v2.Compose([enlarge, shuffled])


def webcam(size: int) -> v2.Transform:
    """What cameras, rooms and detectors change: crop, light, colour, focus, noise, codec, size, occlusion."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomAffine(
                12, translate=(0.08, 0.08), scale=(0.85, 1.15), shear=5, interpolation=InterpolationMode.BILINEAR
            ),
            v2.RandomApply([v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)], p=0.7),
            v2.RandomApply([ColourCast(1.5)], p=0.4),
            v2.RandomGrayscale(0.2),
            v2.RandomChoice(
                [
                    v2.Identity(),
                    v2.GaussianBlur(7, sigma=(0.3, 2.5)),
                    v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.GaussianNoise(0, 0.04), to_uint8()]),
                    LowResolution(0.3, 0.8),
                    Jpeg(10, 80),
                ],
                p=[0.48, 0.13, 0.13, 0.13, 0.13],
            ),
            v2.RandomErasing(0.2, scale=(0.02, 0.15), value=0),
        ]
    )


def to_uint8() -> v2.Transform:
    """0..1 floats to 0..255."""
    return v2.ToDtype(torch.uint8, scale=True)


class ColourCast(v2.Transform):
    """Warmer or cooler light than the camera's white balance expects, by up to `stops` stops of red over blue."""

    def __init__(self, stops: float) -> None:
        super().__init__()
        self.stops = stops

    def forward(self, image: Tensor) -> Tensor:
        """(3, S, S) uint8 RGB -> (3, S, S); the brightness of a grey stays."""
        stops = self.stops * (2 * float(torch.rand(())) - 1)
        gains = torch.tensor([stops / 2, 0.0, -stops / 2]).exp2() ** (1 / GAMMA)
        gains = gains / (gains @ BRIGHTNESS)
        return (image * gains.view(3, 1, 1)).round().clamp(0, 255).to(torch.uint8)


class LowResolution(v2.Transform):
    """Shrink by a random factor from `low` to `high` and enlarge again, like a distant face."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, image: Tensor) -> Tensor:
        """(3, S, S) -> (3, S, S)."""
        size = image.shape[-1]
        factor = self.low + (self.high - self.low) * float(torch.rand(()))
        small = v2.functional.resize(image, [max(4, round(factor * size))] * 2, antialias=True)
        return v2.functional.resize(small, [size, size], antialias=True)


class Jpeg(v2.Transform):
    """Encode as JPEG at a random quality and decode, as many webcams do."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, image: Tensor) -> Tensor:
        """(3, S, S) uint8 RGB -> (3, S, S)."""
        quality = int(torch.randint(self.low, self.high + 1, ()))
        bgr = image.flip(0).permute(1, 2, 0).contiguous().numpy()
        packed = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return torch.from_numpy(cv2.imdecode(packed, cv2.IMREAD_COLOR)).permute(2, 0, 1).flip(0)


PIPELINES: dict[str, Callable[[int], v2.Transform]] = {"paper": paper, "webcam": webcam}
