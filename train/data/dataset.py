"""Labelled faces as samples: face, target distribution, stratum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from iern.runtime.imaging.images import Image, read_image
from iern.runtime.imaging.preprocess import InputSpec, Square, cut, face_square, resize_face
from iern.train.data.augment import UNCHANGED, Augmentation
from iern.train.data.conditions import draw_condition
from iern.train.data.manifest import LabelledFace, text_hash

if TYPE_CHECKING:
    from iern.runtime.imaging.detection import Detection


@dataclass(frozen=True)
class RandomChanges:
    """What is drawn at random for a sample."""

    augmentation: Augmentation = UNCHANGED
    under_conditions: bool = False
    """Whether a capture condition is applied first (train/data/conditions.py). It is then the stratum of the sample."""
    seed: int = 0


NO_CHANGES = RandomChanges()

PORTRAIT = 0.7
"""An image is a crop if the side of the face's square is at least this share of its own. In a portrait it is less."""


class FaceDataset(Dataset):
    """(face (S, S, 3) uint8 BGR, target (E,), stratum index or -1, face number) samples.

    All that is drawn for a sample follows from (seed, epoch, index). So a sample does not depend on the worker, on the
    process, or on where a run was resumed. Of n faces, index i + k n is the k-th repetition of face i in an epoch, with
    new random changes.
    """

    def __init__(
        self,
        records: Sequence[LabelledFace],
        spec: InputSpec,
        strata: Sequence[str],
        changes: RandomChanges = NO_CHANGES,
        detections: Sequence[Detection | None] | None = None,
        whole: float = 0.0,
    ) -> None:
        """Without `detections`, each image is a face and is used whole.

        With them, a face is cut out as the runtime does it; a share `whole` of the samples of crops, and the images
        without a detection, are used whole. Portraits never are.
        """
        self.records, self.spec, self.changes = records, spec, changes
        self.detections, self.whole = detections, whole
        self.stratum_numbers = {name: i for i, name in enumerate(strata)}
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int, int]]:
        """Every face once. Python's own iteration would not end, since every index is valid."""
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, int]:
        face_number = index % len(self.records)
        labelled, changes = self.records[face_number], self.changes
        rng = np.random.default_rng(int(text_hash(f"{changes.seed}/{self.epoch}/{index}")[:15], 16))
        face, stratum = self._crop(read_image(labelled.path), face_number, rng), labelled.confounder
        if changes.under_conditions:
            face, stratum = draw_condition(face, rng)
        if changes.augmentation.change is not None:
            face = changes.augmentation.change(face, rng)
        target = torch.tensor(labelled.target)
        return torch.from_numpy(face), target, self.stratum_numbers.get(stratum, -1), face_number

    def _crop(self, image: Image, face_number: int, rng: np.random.Generator) -> Image:
        """(h, w, 3) image -> (S, S, 3): the face, by its detection or whole, and nearly so with a CropJitter."""
        jitter = self.changes.augmentation.crop
        detection = self.detections[face_number] if self.detections is not None else None
        square = face_square(detection, self.spec) if detection is not None else None
        if square is not None and square.side >= PORTRAIT * min(image.shape[:2]) and rng.random() < self.whole:
            square = None
        if square is None:
            image, size = resize_face(image, self.spec), self.spec.size
            if jitter is None:
                return image
            square = Square(size / 2, size / 2, size)
        return cut(image, square if jitter is None else jitter(square, rng), self.spec)
