"""Weights for half precision: rounded, but so that every kernel keeps its sum."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def round_kernels(network: nn.Module, dtype: torch.dtype) -> None:
    """Give the convolutions of `network`, in place, kernels that `dtype` holds exactly; their own type stays."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.copy_(rounded(part.weight, dtype))


def rounded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """(O, I, k, k) -> the same rounded to `dtype`, in the type given; the k x k weights of a kernel keep their sum.

    Where the picture is smooth a kernel answers by its sum. In one that looks for edges that is a small difference of
    large weights, and the errors of these, each rounded by itself, can outweigh it. So the smallest weight, whose
    steps are the finest, takes what the others leave.
    """
    found, exact = weight.to(dtype).to(weight.dtype).flatten(2), weight.flatten(2)
    if exact.shape[-1] > 1:
        smallest = exact.abs().argmin(dim=-1, keepdim=True)
        left = (exact - found).sum(dim=-1, keepdim=True)
        taken = (found.gather(-1, smallest) + left).to(dtype).to(weight.dtype)
        found = found.scatter(-1, smallest, taken)
    return found.view_as(weight)
