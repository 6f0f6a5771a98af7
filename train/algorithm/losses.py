"""Equations 3 to 7, one function each, and a loss that the paper has not. Expectations are means over the batch.

The published code takes the mean of each pair of terms where Eq. 3, 4 and 8 print sums; so do these functions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 0.05
"""Share of the mean variance that `linear_dependence` adds to every direction's, so that none counts that is all but
constant, and a batch smaller than d has an answer."""


def discriminator_loss(
    expression_logits: Tensor, expression: Tensor, context_logits: Tensor, confounder: Tensor
) -> Tensor:
    """First terms of Eq. 3 and 4, for d_e and d_c: cross-entropies of both, averaged.

    (B, E) logits of d_e on emotion features and (B, E) target distribution; (B, N) logits of d_c on context features
    and (B,) stratum indices.
    """
    of_expression = F.cross_entropy(_full(expression_logits), expression)
    return (of_expression + F.cross_entropy(_full(context_logits), confounder)) / 2


def confusion_loss(stratum_logits: Tensor, expression_logits: Tensor) -> Tensor:
    """Second terms of Eq. 3 and 4, for g_e and g_c: each discriminator's softmax on the other's feature, to uniform.

    (B, N) logits of d_c on emotion features, (B, E) logits of d_e on context features; mean squared errors, averaged.
    """
    return (_to_uniform(stratum_logits) + _to_uniform(expression_logits)) / 2


def reconstruction_loss(reconstructed: Tensor, base: Tensor) -> Tensor:
    """Eq. 5: mean squared error of g_r(emotion, context) against the base feature f_b(x), both (B, d, h, w)."""
    return F.mse_loss(_full(reconstructed), _full(base))


def centre_loss(context: Tensor, centres: Tensor) -> Tensor:
    """Eq. 6: (B, d, h, w) context features and each sample's own centre.

    The mean over the batch of the SUM of squared differences, as published; hence the small lambda2.
    """
    return (_full(context) - _full(centres)).square().flatten(1).sum(dim=1).mean()


def linear_dependence(emotion: Tensor, confounder: Tensor, strata: int) -> Tensor:
    """Not in the paper: how well the strata are told apart linearly by the pooled emotion feature, from 0 to 1.

    (B, d, h, w) features and (B,) stratum indices. Pillai's trace over its largest value: the share of the variance
    that lies between the strata's means, after whitening, since a direction of small variance tells as much as any.
    """
    with torch.autocast(emotion.device.type, enabled=False):  # nothing is solved in half precision
        feature = _full(emotion).mean(dim=(2, 3))
        centred = feature - feature.mean(dim=0)
        member = F.one_hot(confounder, strata).to(centred.dtype)
        # (N, d) the strata's means, each weighed so that the sum of outer products is the scatter between them.
        between = member.T @ centred / (member.sum(dim=0).clamp(min=1) * len(centred)).sqrt().unsqueeze(1)
        covariance = centred.T @ centred / len(centred)
        ridge = (RIDGE * covariance.diagonal().mean()).clamp(min=1e-30) * torch.eye(len(covariance)).to(covariance)
        return (between * torch.linalg.solve(covariance + ridge, between.T).T).sum() / max(strata - 1, 1)


def classification_loss(logits: Tensor, expression: Tensor, offset: Tensor | None = None) -> Tensor:
    """Eq. 7: cross-entropy of the (B, E) mean logits against the (B, E) target distribution; a (B, E) `offset` is
    added to the logits first."""
    logits = _full(logits)
    return F.cross_entropy(logits if offset is None else logits + offset, expression)


def _to_uniform(logits: Tensor) -> Tensor:
    return (_full(logits).softmax(dim=1) - 1 / logits.shape[1]).square().mean()


def _full(value: Tensor) -> Tensor:
    """Losses are summed in float32 where the network runs in half precision."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
