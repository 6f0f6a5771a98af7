"""The averaging tail in plain NumPy and float64: slow, and simple enough to be the reference of every fast form.

After the last ReLU, the published network has a 3x3 convolution without activation, a residual sum, the global average
pool and the classifier. With u the residual stream, h the last ReLU's output, W32, b32 the convolution (its BatchNorm
folded in) and Wf, bf the classifier, the logits in one stratum are

    logits = Wf mean(u + W32 * h + b32) + bf

No ReLU is left, so the order may change. Each of the nine taps of the 3x3 convolution, padded by 1, meets some pixels
of h while it slides over the map. So the sum of the convolution over all pixels is, for each tap, the sum of h over
those pixels times the tap's weights:

    logits = Wf mean(u) + sum_k M_k windowsum_k(h) + (bf + Wf b32),    M_k = Wf W32_k / (H W)

The tap at offset (dy, dx) from the kernel's centre meets all rows but the last for dy = -1, all rows for 0, and all but
the first for 1; the same holds for columns and dx. That is H W d additions per tap instead of H W d d multiply-adds.

`iern.cpp_ext.tail_weights` makes the tables that the fast forms read. This file does not use it, so that a mistake
there shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def strata_tail(
    u: ArrayLike,
    h: ArrayLike,
    classifier_weight: ArrayLike,
    classifier_bias: ArrayLike,
    last_conv_weight: ArrayLike,
    last_conv_bias: ArrayLike,
) -> Array:
    """u and h (B, N, d, H, W) -> (B, N, E) logits, as convolution, sum, average pool and linear layer.

    The weights are (E, d) and (E,) of the classifier, (d, d, 3, 3) and (d,) of the convolution.
    """
    u, h = np.asarray(u, np.float64), np.asarray(h, np.float64)
    feature = u + _convolved(h, np.asarray(last_conv_weight, np.float64), np.asarray(last_conv_bias, np.float64))
    return feature.mean(axis=(-2, -1)) @ np.asarray(classifier_weight, np.float64).T + np.asarray(classifier_bias)


def strata_tail_by_window_sums(
    u: ArrayLike,
    h: ArrayLike,
    classifier_weight: ArrayLike,
    classifier_bias: ArrayLike,
    last_conv_weight: ArrayLike,
    last_conv_bias: ArrayLike,
) -> Array:
    """The same function without the convolution, as the fast forms compute it."""
    u, h = np.asarray(u, np.float64), np.asarray(h, np.float64)
    linear, kernel = np.asarray(classifier_weight, np.float64), np.asarray(last_conv_weight, np.float64)
    by_tap = np.einsum("eo,odkl->edkl", linear, kernel) / (h.shape[-2] * h.shape[-1])
    constant = np.asarray(classifier_bias) + linear @ np.asarray(last_conv_bias, np.float64)
    return u.mean(axis=(-2, -1)) @ linear.T + np.einsum("bndkl,edkl->bne", window_sums(h), by_tap) + constant


def window_sums(h: Array) -> Array:
    """(..., H, W) -> (..., 3, 3): the sum over the pixels that each tap of a padded 3x3 kernel meets."""
    height, width = h.shape[-2:]
    sums = np.empty((*h.shape[:-2], 3, 3))
    for k, rows in enumerate((slice(0, height - 1), slice(0, height), slice(1, height))):
        for m, columns in enumerate((slice(0, width - 1), slice(0, width), slice(1, width))):
            sums[..., k, m] = h[..., rows, columns].sum(axis=(-2, -1))
    return sums


def _convolved(h: Array, weight: Array, bias: Array) -> Array:
    """(B, N, d, H, W) * (d, d, 3, 3) + (d,), zeros around the map, stride 1 -> (B, N, d, H, W)."""
    height, width = h.shape[-2:]
    padded = np.pad(h, [(0, 0)] * (h.ndim - 2) + [(1, 1), (1, 1)])
    result = np.zeros_like(h) + bias[:, None, None]
    for k in range(3):
        for m in range(3):
            shifted = padded[..., k : k + height, m : m + width]
            result += np.einsum("od,bndhw->bnohw", weight[:, :, k, m], shifted)
    return result
