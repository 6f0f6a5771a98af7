"""Equations 3 to 7, one function each. Expectations are means over the batch.

For each pair of terms Eq. 3, 4 and 8 print a sum. The published code takes the mean, and so do these functions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def discriminator_loss(
    expression_logits: Tensor, expression: Tensor, context_logits: Tensor, confounder: Tensor
) -> Tensor:
    """First terms of Eq. 3 and 4, for d_e and d_c: the mean of their cross-entropies.

    (B, E) logits of d_e on emotion features and (B, E) target distribution; (B, N) logits of d_c on context features
    and (B,) stratum indices.
    """
    of_expression = F.cross_entropy(_full(expression_logits), expression)
    return (of_expression + F.cross_entropy(_full(context_logits), confounder)) / 2


def confusion_loss(stratum_logits: Tensor, expression_logits: Tensor) -> Tensor:
    """Second terms of Eq. 3 and 4, for g_e and g_c: a discriminator's softmax on the other's feature becomes uniform.

    (B, N) logits of d_c on emotion features, (B, E) logits of d_e on context features -> the mean of their mean squared
    errors.
    """
    return (_to_uniform(stratum_logits) + _to_uniform(expression_logits)) / 2


def reconstruction_loss(reconstructed: Tensor, base: Tensor) -> Tensor:
    """Eq. 5: mean squared error of g_r(emotion, context) against the base feature f_b(x), both (B, d, h, w)."""
    return F.mse_loss(_full(reconstructed), _full(base))


def centre_loss(context: Tensor, centres: Tensor) -> Tensor:
    """Eq. 6: squared distance of (B, d, h, w) context features to the centre of each sample's stratum.

    The mean over the batch of the SUM over a map, as published. That is why lambda2 is small.
    """
    return (_full(context) - _full(centres)).square().flatten(1).sum(dim=1).mean()


def classification_loss(logits: Tensor, expression: Tensor, offset: Tensor | None = None) -> Tensor:
    """Eq. 7: cross-entropy of the (B, E) mean logits against the (B, E) target distribution.

    A (B, E) `offset` is added to the logits first.
    """
    logits = _full(logits)
    return F.cross_entropy(logits if offset is None else logits + offset, expression)


def _to_uniform(logits: Tensor) -> Tensor:
    return (_full(logits).softmax(dim=1) - 1 / logits.shape[1]).square().mean()


def _full(value: Tensor) -> Tensor:
    """A network in half precision has its losses summed in float32."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
