"""Means over the processes of a run: gradients after each backward pass, BatchNorm statistics after each epoch."""

from __future__ import annotations

from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from iern.train.network.iern import batch_norms


def average_gradients(parameters: list[nn.Parameter], fabric: Fabric) -> None:
    """Replace the gradients by their mean over the processes, in place."""
    if fabric.world_size == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = cast(Tensor, fabric.all_reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean"))
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)


@torch.no_grad()
def average_statistics(model: nn.Module, fabric: Fabric) -> None:
    """Replace BatchNorm's running statistics by their mean over the processes, in place.

    Inside an epoch each process keeps its own.
    """
    if fabric.world_size == 1:
        return
    for norm in batch_norms([model]):
        for statistic in (norm.running_mean, norm.running_var):
            if statistic is not None:
                statistic.copy_(cast(Tensor, fabric.all_reduce(statistic, reduce_op="mean")))
