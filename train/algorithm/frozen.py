"""What a forward pass does not change: parameters without gradients, running statistics of passes that do not count."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from torch import nn

from iern.train.network.iern import batch_norms


@contextlib.contextmanager
def no_gradient(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, the parameters of `parts` take no gradient. Gradients still pass through to the input of a part."""
    parameters = [p for part in parts for p in part.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def frozen_statistics(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, BatchNorm normalises by the batch and does not change its running statistics or counter."""
    norms = [norm for norm in batch_norms(parts) if norm.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextlib.contextmanager
def statistics_momentum(part: nn.Module, momentum: float | None) -> Iterator[None]:
    """Inside, BatchNorm moves its running statistics by `momentum`; None: by its own."""
    norms = batch_norms([part]) if momentum is not None else []
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = momentum
    try:
        yield
    finally:
        for norm, own in zip(norms, before, strict=True):
            norm.momentum = own
