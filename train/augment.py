"""Random changes to training faces, on torchvision's transforms: `paper` as published, `webcam` for any camera."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

Augmentation = Callable[[Tensor], Tensor]
"""(S, S, 3) uint8 BGR -> (S, S, 3) uint8 BGR, drawing from torch's global generator"""


def augmentation(name: str, size: int) -> Augmentation | None:
    """`none`, `paper` or `webcam`, for inputs of size x size pixels."""
    if name == "none":
        return None
    if name not in PIPELINES:
        raise ValueError(f"unknown augmentation {name!r}; choose none, {', '.join(PIPELINES)}")
    pipeline = PIPELINES[name](size)
    return lambda face: pipeline(face.permute(2, 0, 1).flip(0)).flip(0).permute(1, 2, 0).contiguous()


def paper(size: int) -> v2.Transform:
    """As published, in an order shuffled per image; the resize to 256 before the crop of 224 is a ratio here."""
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
    """What cameras, rooms and detectors do: pose of the crop, light, colour, focus, noise, resolution, occlusion."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomAffine(
                12, translate=(0.08, 0.08), scale=(0.85, 1.15), shear=5, interpolation=InterpolationMode.BILINEAR
            ),
            v2.RandomApply([v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)], p=0.7),
            v2.RandomGrayscale(0.2),
            v2.RandomChoice(
                [
                    v2.Identity(),
                    v2.GaussianBlur(7, sigma=(0.3, 2.5)),
                    v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.GaussianNoise(0, 0.04), to_uint8()]),
                    LowResolution(0.3, 0.8),
                ],
                p=[0.55, 0.15, 0.15, 0.15],
            ),
            v2.RandomErasing(0.2, scale=(0.02, 0.15), value=0),
        ]
    )


def to_uint8() -> v2.Transform:
    """0..1 floats to 0..255."""
    return v2.ToDtype(torch.uint8, scale=True)


class LowResolution(v2.Transform):
    """Shrink by a random factor between `low` and `high` and enlarge again, as a distant face is."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, image: Tensor) -> Tensor:
        """(3, S, S) -> (3, S, S)."""
        size = image.shape[-1]
        factor = self.low + (self.high - self.low) * float(torch.rand(()))
        small = v2.functional.resize(image, [max(4, round(factor * size))] * 2, antialias=True)
        return v2.functional.resize(small, [size, size], antialias=True)


PIPELINES: dict[str, Callable[[int], v2.Transform]] = {"paper": paper, "webcam": webcam}
