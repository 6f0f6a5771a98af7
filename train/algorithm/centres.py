"""The mean context feature of each stratum, counted during training: the value that its centre should reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor


@dataclass
class ContextMeans:
    """Running means of the context features of each stratum."""

    total: Tensor
    """(N, d, h, w) float32 sums."""
    count: Tensor
    """(N,) float32 numbers of faces."""

    @classmethod
    def like(cls, centres: Tensor) -> ContextMeans:
        """Nothing counted yet, for (N, d, h, w) centres."""
        return cls(torch.zeros_like(centres), torch.zeros(len(centres), device=centres.device))

    def add(self, context: Tensor, confounder: Tensor) -> None:
        """Count (B, d, h, w) features of faces of (B,) strata."""
        self.total.index_add_(0, confounder, context.detach().to(self.total.dtype))
        self.count += torch.bincount(confounder, minlength=len(self.count))

    def summed(self, fabric: Fabric) -> ContextMeans:
        """The sums of all processes, on each of them."""
        total, count = (cast(Tensor, fabric.all_reduce(own, reduce_op="sum")) for own in (self.total, self.count))
        return ContextMeans(total, count)

    def gather(self, fabric: Fabric) -> None:
        """Move the sums of all processes to the first one; the others continue from 0."""
        if fabric.world_size == 1:
            return
        together = self.summed(fabric)
        for own, total in ((self.total, together.total), (self.count, together.count)):
            own.copy_(total if fabric.global_rank == 0 else torch.zeros_like(own))

    def means(self) -> Tensor:
        """-> (N, d, h, w) means; 0 for a stratum without a face."""
        return self.total / self.count.clamp(min=1).view(-1, 1, 1, 1)
