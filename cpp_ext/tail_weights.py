"""Classifier and last convolution -> the weights of sums of maps that the averaging tail reads.

No ReLU follows the last convolution, so it, the pool and the classifier are one linear function of sums over the maps;
`iern.cpp_ext.reference` has the algebra.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64s = NDArray[np.float64]


class TailWeights(NamedTuple):
    """The table of weights that the compiled tail reads, in single precision."""

    weight: NDArray[np.float32]
    """(E, d, 10). Column 0: for the sum of u; column 1 + 3 k + l: for the window sum of h under tap (k, l).
    (E, d, 1) without h."""
    bias: NDArray[np.float32]
    """(E,)."""


def windowed_weights(
    classifier_weight: ArrayLike,
    classifier_bias: ArrayLike,
    last_conv_weight: ArrayLike,
    last_conv_bias: ArrayLike,
    map_size: tuple[int, int],
) -> TailWeights:
    """Layers as `iern.cpp_ext.reference.strata_tail` takes them -> the table for maps u and h."""
    layers = (classifier_weight, classifier_bias, last_conv_weight, last_conv_bias)
    return tail_weights(classifier_weight, *window_sum_weights(*layers, map_size), map_size)


def pooled_weights(classifier_weight: ArrayLike, classifier_bias: ArrayLike, map_size: tuple[int, int]) -> TailWeights:
    """Pool and classifier -> the table for u alone. For `block: paper`, which has a ReLU before the pool."""
    return tail_weights(classifier_weight, None, classifier_bias, map_size)


def window_sum_weights(
    classifier_weight: ArrayLike,
    classifier_bias: ArrayLike,
    last_conv_weight: ArrayLike,
    last_conv_bias: ArrayLike,
    map_size: tuple[int, int],
) -> tuple[Float64s, Float64s]:
    """Layers as for `windowed_weights` -> float64 weights (E, d, 3, 3) of h's window sums, and the bias (E,).

    The weights hold the pool's division by the number of pixels.
    """
    linear, kernel = np.asarray(classifier_weight, np.float64), np.asarray(last_conv_weight, np.float64)
    by_tap = np.einsum("eo,odkl->edkl", linear, kernel) / (map_size[0] * map_size[1])
    return by_tap, np.asarray(classifier_bias, np.float64) + linear @ np.asarray(last_conv_bias, np.float64)


def tail_weights(
    of_mean: ArrayLike, of_windows: ArrayLike | None, bias: ArrayLike, map_size: tuple[int, int]
) -> TailWeights:
    """Weights (E, d) of u's mean, weights (E, d, 3, 3) of h's window sums if there is h, and the bias -> the table."""
    of_sum = np.asarray(of_mean, np.float64)[..., None] / (map_size[0] * map_size[1])
    columns = [of_sum] if of_windows is None else [of_sum, np.asarray(of_windows).reshape(*of_sum.shape[:2], 9)]
    return TailWeights(np.concatenate(columns, axis=-1).astype(np.float32), np.asarray(bias).astype(np.float32))
