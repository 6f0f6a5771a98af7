"""Rounds convolution weights to half precision such that every kernel keeps its sum."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def round_kernels(network: nn.Module, dtype: torch.dtype) -> None:
    """Round the convolution kernels of `network` in place to values of `dtype`. Their own number type stays."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.copy_(rounded(part.weight, dtype))


def rounded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """(O, I, k, k) -> the same rounded to `dtype`, in its own number type. Each k x k kernel keeps its sum.

    On a smooth part of an image, a kernel's output is proportional to its sum. In an edge detector the sum is a small
    difference of large weights, and their rounding errors can exceed it. So the smallest weight, which has the finest
    steps, takes up the rounding errors of the others.
    """
    found, exact = weight.to(dtype).to(weight.dtype).flatten(2), weight.flatten(2)
    if exact.shape[-1] > 1:
        smallest = exact.abs().argmin(dim=-1, keepdim=True)
        left = (exact - found).sum(dim=-1, keepdim=True)
        taken = (found.gather(-1, smallest) + left).to(dtype).to(weight.dtype)
        found = found.scatter(-1, smallest, taken)
    return found.view_as(weight)
