"""Classifier and last convolution -> the one table of weights that the compiled tail reads."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Weights = NDArray[np.float32]


def windowed_weights(
    classifier_weight: ArrayLike,
    classifier_bias: ArrayLike,
    last_conv_weight: ArrayLike,
    last_conv_bias: ArrayLike,
    map_size: tuple[int, int],
) -> tuple[Weights, Weights]:
    """Weights as `iern.cpp_ext.reference.strata_tail` takes them -> table (E, d, 10) and bias (E,), made in float64.

    Column 0 belongs to the sum of u, column 1 + 3 k + l to the window sum of h under tap (k, l).
    """
    linear, kernel = np.asarray(classifier_weight, np.float64), np.asarray(last_conv_weight, np.float64)
    by_tap = np.einsum("eo,odkl->edkl", linear, kernel).reshape(*linear.shape, 9)
    table = np.concatenate([linear[..., None], by_tap], axis=-1) / (map_size[0] * map_size[1])
    bias = np.asarray(classifier_bias, np.float64) + linear @ np.asarray(last_conv_bias, np.float64)
    return table.astype(np.float32), bias.astype(np.float32)


def pooled_weights(
    classifier_weight: ArrayLike, classifier_bias: ArrayLike, map_size: tuple[int, int]
) -> tuple[Weights, Weights]:
    """For `block: paper`, where a ReLU stands before the pool: table (E, d, 1) and bias (E,)."""
    table = np.asarray(classifier_weight, np.float64)[..., None] / (map_size[0] * map_size[1])
    return table.astype(np.float32), np.asarray(classifier_bias, np.float32)
