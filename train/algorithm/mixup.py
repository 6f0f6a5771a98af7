"""Mixup between faces of one stratum, so that a mixed face still belongs to one stratum."""

from __future__ import annotations

import dataclasses

import torch

from iern.train.algorithm.batch import Batch


def mixup(batch: Batch, alpha: float) -> Batch:
    """Blend each face and its target with another face of its stratum, by one weight drawn from Beta(alpha, alpha).

    Draws from torch's global generator. The only face of a stratum stays as it is.
    """
    partner = torch.arange(len(batch.faces), device=batch.faces.device)
    for stratum in batch.confounder.unique():
        own = (batch.confounder == stratum).nonzero().squeeze(1)
        partner[own] = own[torch.randperm(len(own)).to(own.device)]
    weight = float(torch.distributions.Beta(alpha, alpha).sample())
    blended = torch.lerp(batch.faces[partner].float(), batch.faces.float(), weight)
    return dataclasses.replace(
        batch,
        faces=blended.round().to(torch.uint8),
        expression=torch.lerp(batch.expression[partner], batch.expression, weight),
    )
