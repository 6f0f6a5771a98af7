"""Which images an epoch draws, in which batches, and how frequent the expressions are then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from iern.runtime.errors import DataError

if TYPE_CHECKING:
    from iern.train.data.manifest import LabelledFace

Resample = Literal["none", "expression", "cell"]
"""What is drawn equally often: `none`: every face once an epoch; expressions; or (expression, confounder) cells."""


@dataclass(frozen=True)
class Balance:
    """An epoch of n draws from n images in G groups."""

    groups: NDArray[np.int64]
    """(n,) group of each image, 0 to G - 1."""
    quotas: NDArray[np.int64]
    """(G,) draws from each group in an epoch; their sum is n."""

    def order(self, random: np.random.Generator) -> NDArray[np.int64]:
        """-> (n,) images in the order of an epoch. The images of a group come equally often, or once more.

        The k-th repetition of image i in the epoch is numbered i + k n.
        """
        drawn = []
        for group, quota in enumerate(self.quotas):
            members = random.permutation(np.flatnonzero(self.groups == group))
            repetition = np.arange(quota) // len(members)
            drawn.append(np.resize(members, quota) + len(self.groups) * repetition)
        return random.permutation(np.concatenate(drawn))


def balance(faces: Sequence[LabelledFace], resample: Resample, strength: float = 1.0) -> Balance | None:
    """How an epoch draws from the faces; None if `resample` is `none`.

    The share of a group of c images is proportional to c ** (1 - `strength`): with 1 all groups are equal, with 0 the
    shares stay as they are. Raises DataError for a strength outside 0 to 1.
    """
    if not 0 <= strength <= 1:
        raise DataError(f"resample_strength is {strength}; expected 0 (shares as they are) to 1 (equal shares)")
    if resample == "none":
        return None
    names = [(face.expression, face.confounder if resample == "cell" else "") for face in faces]
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    groups = np.array([number[name] for name in names], dtype=np.int64)
    shares = np.bincount(groups) ** (1.0 - strength)
    # Rounding the cumulated shares makes the quotas whole numbers with the sum n.
    cuts = np.rint(np.cumsum(shares) / shares.sum() * len(faces)).astype(np.int64)
    return Balance(groups, np.diff(cuts, prepend=0))


def label_prior(
    faces: Sequence[LabelledFace], balanced: Balance | None = None, strata: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """-> (E,) shares of the expressions in the targets of an epoch; with `strata` (N, E), within each stratum.

    A stratum without a face gets equal shares.
    """
    targets = np.array([face.target for face in faces], dtype=np.float64)
    weights = np.ones(len(faces))
    if balanced is not None:
        weights = (balanced.quotas / np.bincount(balanced.groups))[balanced.groups]
    if strata is None:
        return weights @ targets / weights.sum()
    member = np.array([[face.confounder == stratum for face in faces] for stratum in strata], dtype=np.float64)
    summed = (member * weights) @ targets
    empty = summed.sum(axis=1) == 0
    summed[empty] = 1
    return summed / summed.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class ProcessRank:
    """Which of the processes that train together this one is."""

    rank: int = 0
    world_size: int = 1


ALONE = ProcessRank()


class EpochBatches:
    """Batch sampler of one process: a seeded order for each epoch, split evenly over the processes.

    All processes get the same number of batches: if the images cannot be divided evenly, the first ones of the order
    come again. A last batch of one image joins the batch before it, since BatchNorm has no statistics of a single 1x1
    map. Set `epoch`, and `start` to the batches already done, before iterating.

    With a `balance` an epoch has the same length, and draws from the groups by their quotas. The k-th repetition of
    image i is then i + k `images`.
    """

    def __init__(
        self, images: int, batch_size: int, seed: int, process: ProcessRank = ALONE, balance: Balance | None = None
    ) -> None:
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.process, self.balance = process, balance
        self.epoch, self.start = 0, 0
        if batch_size < 2 or images < 2 * process.world_size:
            raise DataError(
                f"{images} training images in batches of {batch_size} over {process.world_size} processes: "
                "each process needs at least 2 images and a batch size of at least 2"
            )

    def __len__(self) -> int:
        own = -(-self.images // self.process.world_size)
        full, rest = divmod(own, self.batch_size)
        return full + (rest >= 2 or full == 0)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(self.images) if self.balance is None else self.balance.order(random)
        processes = self.process.world_size
        padded = np.resize(order, -(-self.images // processes) * processes)
        own = padded[self.process.rank :: processes].tolist()
        for i in range(self.start, len(self)):
            end = len(own) if i == len(self) - 1 else (i + 1) * self.batch_size
            yield own[i * self.batch_size : end]
