"""What a forward pass leaves alone: gradients of frozen parts, running statistics of passes that must not count."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from iern.train.network.iern import batch_norms


@contextlib.contextmanager
def no_gradient(parts: list[nn.Module]) -> Iterator[None]:
    """Parameters of `parts` take no gradient inside; gradients still pass through them to their input."""
    parameters = [p for part in parts for p in part.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def frozen_statistics(parts: list[nn.Module]) -> Iterator[None]:
    """BatchNorm inside normalises by the batch and leaves its running statistics and counter alone."""
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
    """BatchNorm inside moves its running statistics by `momentum`; none: by its own."""
    norms = batch_norms([part]) if momentum is not None else []
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = momentum
    try:
        yield
    finally:
        for norm, own in zip(norms, before, strict=True):
            norm.momentum = own
