"""Rare faces met more often: how often an epoch draws from each group of them, and the label prior that follows."""

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
"""What is balanced: nothing (every face once an epoch), the expressions, or the (expression, confounder) cells."""


@dataclass(frozen=True)
class Balance:
    """An epoch of n draws from n images in G groups."""

    groups: NDArray[np.int64]
    """(n,) each image's group, 0 to G - 1."""
    quotas: NDArray[np.int64]
    """(G,) draws of each group in an epoch, n together."""

    def order(self, random: np.random.Generator) -> NDArray[np.int64]:
        """(n,) images in the order of an epoch. Inside a group all come equally often, but for one draw.

        The k-th repetition of image i in the epoch stands there as i + k n.
        """
        drawn = []
        for group, quota in enumerate(self.quotas):
            members = random.permutation(np.flatnonzero(self.groups == group))
            repetition = np.arange(quota) // len(members)
            drawn.append(np.resize(members, quota) + len(self.groups) * repetition)
        return random.permutation(np.concatenate(drawn))


def balance(records: Sequence[LabelledFace], resample: Resample, strength: float = 1.0) -> Balance | None:
    """How an epoch draws from `records`; none for `none`.

    A group of c images gets a share of the epoch in proportion to c to the power of 1 - `strength`: 1 makes the groups
    equal, 0 leaves the shares as they are. Raises DataError for any other than 0 to 1.
    """
    if not 0 <= strength <= 1:
        raise DataError(f"resample_strength is {strength}; expected 0 (shares as they are) to 1 (all alike)")
    if resample == "none":
        return None
    names = [(r.expression, r.confounder if resample == "cell" else "") for r in records]
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    groups = np.array([number[name] for name in names], dtype=np.int64)
    shares = np.bincount(groups) ** (1.0 - strength)
    # Cut where the cumulated shares round to, the quotas are whole numbers with the sum n.
    cuts = np.rint(np.cumsum(shares) / shares.sum() * len(records)).astype(np.int64)
    return Balance(groups, np.diff(cuts, prepend=0))


def label_prior(
    records: Sequence[LabelledFace], drawn: Balance | None = None, strata: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """(E,) shares of the expressions in the targets of an epoch, soft ones included; with `strata` (N, E), in each.

    A stratum without a face has equal shares: nothing is known of it.
    """
    targets = np.array([record.target for record in records], dtype=np.float64)
    weights = np.ones(len(records)) if drawn is None else (drawn.quotas / np.bincount(drawn.groups))[drawn.groups]
    if strata is None:
        return weights @ targets / weights.sum()
    member = np.array([[record.confounder == stratum for record in records] for stratum in strata], dtype=np.float64)
    summed = (member * weights) @ targets
    empty = summed.sum(axis=1) == 0
    summed[empty] = 1
    return summed / summed.sum(axis=1, keepdims=True)


class EpochBatches:
    """Batch sampler of one process: a seeded order an epoch, split evenly over the processes, resumable in mid-epoch.

    Every process gets the same number of batches (the order wraps around where the processes do not divide it). A last
    batch of one image joins the batch before it: BatchNorm has no statistics of a single 1x1 map.

    With a `balance` the epoch is as long, but draws from its groups as told; a repeated image is i + k images.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        balance: Balance | None = None,
    ) -> None:
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.rank, self.world_size, self.balance = rank, world_size, balance
        self.epoch, self.start = 0, 0
        if batch_size < 2 or images < 2 * world_size:
            raise DataError(
                f"{images} training images in batches of {batch_size} over {world_size} processes: "
                "each process needs at least 2 images and a batch size of at least 2"
            )

    def __len__(self) -> int:
        own = -(-self.images // self.world_size)
        full, rest = divmod(own, self.batch_size)
        return full + (rest >= 2 or full == 0)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(self.images) if self.balance is None else self.balance.order(random)
        padded = np.resize(order, -(-self.images // self.world_size) * self.world_size)
        own = padded[self.rank :: self.world_size].tolist()
        for i in range(self.start, len(self)):
            end = len(own) if i == len(self) - 1 else (i + 1) * self.batch_size
            yield own[i * self.batch_size : end]
