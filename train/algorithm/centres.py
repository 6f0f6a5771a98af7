"""What the centres should come to: the strata's mean context features, counted while training goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor


@dataclass
class ContextMeans:
    """Running means of the context features of each stratum: what the centres should come to."""

    total: Tensor
    """(N, d, h, w) float32 sums."""
    count: Tensor
    """(N,) float32."""

    @classmethod
    def like(cls, centres: Tensor) -> ContextMeans:
        """Nothing counted, in the shape of (N, d, h, w) centres."""
        return cls(torch.zeros_like(centres), torch.zeros(len(centres), device=centres.device))

    def add(self, context: Tensor, confounder: Tensor) -> None:
        """Count (B, d, h, w) features of (B,) strata."""
        self.total.index_add_(0, confounder, context.detach().to(self.total.dtype))
        self.count += torch.bincount(confounder, minlength=len(self.count))

    def gather(self, fabric: Fabric) -> None:
        """The sums of all processes to the first one, the others start anew."""
        if fabric.world_size == 1:
            return
        for own in (self.total, self.count):
            together = cast(Tensor, fabric.all_reduce(own, reduce_op="sum"))
            own.copy_(together if fabric.global_rank == 0 else torch.zeros_like(own))

    def means(self) -> Tensor:
        """(N, d, h, w); 0 for a stratum not seen."""
        return self.total / self.count.clamp(min=1).view(-1, 1, 1, 1)
