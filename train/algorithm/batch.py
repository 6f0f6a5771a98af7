"""One batch of labelled faces."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Batch:
    """One batch on the device."""

    faces: Tensor
    """(B, S, S, 3) uint8 BGR."""
    expression: Tensor
    """(B, E) target distribution."""
    confounder: Tensor
    """(B,) int64 stratum indices."""
