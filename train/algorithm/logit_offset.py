"""What the classification loss adds to the logits, so that label frequencies do not become part of the network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iern.train.algorithm.config import AlgorithmConfig


@dataclass(frozen=True)
class LabelPriors:
    """How frequent the expressions are in the training targets; needed by the two adjustments only."""

    overall: Tensor | None = None
    """(E,) shares of the expressions."""
    by_stratum: Tensor | None = None
    """(N, E) the same within each stratum; needed by `stratum_adjustment` only."""


def logit_offset(config: AlgorithmConfig, priors: LabelPriors, strata: int, device: torch.device) -> Tensor | None:
    """(N, E): tau log P(e) + kappa (log P(e | stratum) - log P(e)); None if both tau and kappa are 0.

    Raises ValueError if a prior is missing.
    """
    tau, kappa = config.logit_adjustment, config.stratum_adjustment
    if not tau and not kappa:
        return None
    overall = _log_prior(priors.overall, "logit_adjustment" if tau else "stratum_adjustment", device)
    offset = ((tau - kappa) * overall).expand(strata, -1)
    if kappa:
        offset = offset + kappa * _log_prior(priors.by_stratum, "stratum_adjustment", device)
    return offset


def _log_prior(prior: Tensor | None, option: str, device: torch.device) -> Tensor:
    """Shares -> their float32 logarithms on the device, finite for an expression that no target has."""
    if prior is None:
        raise ValueError(f"{option} needs the prior of the training labels, found none; pass LabelPriors with it")
    return prior.clamp(min=torch.finfo(torch.float32).tiny).log().float().to(device)
