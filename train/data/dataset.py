"""Labelled faces as samples: face, target distribution, stratum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from iern.runtime.imaging.images import read_image
from iern.runtime.imaging.preprocess import InputSpec, resize_face
from iern.train.data.conditions import draw_condition
from iern.train.data.manifest import LabelledFace, text_hash


@dataclass(frozen=True)
class RandomChanges:
    """What is drawn at random for a sample."""

    augment: Callable[[Tensor], Tensor] | None = None
    """(S, S, 3) uint8 BGR -> (S, S, 3) uint8 BGR, drawing from torch's global generator."""
    under_conditions: bool = False
    """Whether a capture condition is applied first (train/data/conditions.py). It is then the stratum of the sample."""
    seed: int = 0


NO_CHANGES = RandomChanges()


class FaceDataset(Dataset):
    """(face (S, S, 3) uint8 BGR, target (E,), stratum index or -1, face number) samples.

    Torch's generator is seeded by (seed, epoch, index) for each sample. So a sample does not depend on the worker, on
    the process, or on where a run was resumed. Of n faces, index i + k n is the k-th repetition of face i in an epoch,
    with new random changes.
    """

    def __init__(
        self,
        records: Sequence[LabelledFace],
        spec: InputSpec,
        strata: Sequence[str],
        changes: RandomChanges = NO_CHANGES,
    ) -> None:
        self.records, self.spec, self.changes = records, spec, changes
        self.stratum_numbers = {name: i for i, name in enumerate(strata)}
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int, int]]:
        """Every face once. Python's own iteration would not end, since every index is valid."""
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, int]:
        face_number = index % len(self.records)
        labelled = self.records[face_number]
        face = torch.from_numpy(resize_face(read_image(labelled.path), self.spec))
        face, stratum = self._changed(face, labelled.confounder, index)
        return face, torch.tensor(labelled.target), self.stratum_numbers.get(stratum, -1), face_number

    def _changed(self, face: Tensor, stratum: str, index: int) -> tuple[Tensor, str]:
        """The face (S, S, 3) with the random changes of this index and epoch, and its stratum after them."""
        changes = self.changes
        if not changes.under_conditions and changes.augment is None:
            return face, stratum
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(text_hash(f"{changes.seed}/{self.epoch}/{index}")[:15], 16))
            if changes.under_conditions:
                pixels, stratum = draw_condition(face.numpy())
                face = torch.from_numpy(pixels)
            if changes.augment is not None:
                face = changes.augment(face)
        return face, stratum
