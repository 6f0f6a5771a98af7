"""Records as samples: face, target distribution, stratum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from iern.runtime.imaging.images import read_image
from iern.runtime.imaging.preprocess import InputSpec, resize_face
from iern.train.data.conditions import drawn_condition
from iern.train.data.manifest import LabelledFace, _hash


class FaceDataset(Dataset):
    """(face (S, S, 3) uint8 BGR, target (E,), stratum index or -1, index) samples.

    `augment` maps (S, S, 3) uint8 to the same; it draws from torch's generator, which is seeded by (seed, epoch,
    index) around each call, so that a sample is the same whatever the worker, the process and the point of resumption.
    Of n records, index i + k n is the k-th repetition of face i in an epoch, augmented anew. With `under_conditions`
    each is first put under a condition (train/data/conditions.py), drawn likewise: the condition is its stratum then.
    """

    def __init__(
        self,
        records: Sequence[LabelledFace],
        spec: InputSpec,
        strata: Sequence[str],
        augment: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
        under_conditions: bool = False,
    ) -> None:
        self.records, self.spec, self.augment, self.seed = records, spec, augment, seed
        self.under_conditions = under_conditions
        self.stratum = {name: i for i, name in enumerate(strata)}
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int, int]]:
        """Every face once: indices go on beyond the last, so Python would not find an end by itself."""
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, int]:
        face_number = index % len(self.records)
        record = self.records[face_number]
        face, stratum = torch.from_numpy(resize_face(read_image(record.path), self.spec)), record.confounder
        if self.under_conditions or self.augment is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(_hash(f"{self.seed}/{self.epoch}/{index}")[:15], 16))
                if self.under_conditions:
                    pixels, stratum = drawn_condition(face.numpy())
                    face = torch.from_numpy(pixels)
                if self.augment is not None:
                    face = self.augment(face)
        return face, torch.tensor(record.target), self.stratum.get(stratum, -1), face_number
