"""Random cases of the averaging tail, with its outputs in float64 by the layers that it replaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iern.cpp_ext.reference import strata_tail
from iern.cpp_ext.tail_weights import pooled_weights, windowed_weights
from iern.runtime.intervention import softmax

CASES = {
    "half, mean of logits": {},
    "half, mean of softmaxes": {"answer": "probabilities"},
    "single precision": {"half": False},
    "block paper": {"windowed": False},
    "maps of one pixel": {"map_size": (1, 1)},
    "maps of one row": {"map_size": (1, 9)},
}
"""The cases for every compiled form: changes to the arguments of `tail_case`."""


@dataclass(frozen=True)
class TailCase:
    """The arguments of a compiled form of the tail, and the right outputs."""

    u: NDArray
    """(B * N, d, H, W)."""
    h: NDArray | None
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    strata: int
    temperature: float
    answer: str
    probabilities: NDArray[np.float64]
    logits: NDArray[np.float64]
    stratum_logits: NDArray[np.float64]

    @property
    def faces(self) -> int:
        return len(self.u) // self.strata

    def differences(self, probabilities: NDArray, logits: NDArray, stratum_logits: NDArray) -> dict[str, float]:
        """Largest differences from the right outputs: logits over the largest logit, probabilities absolute."""
        scale = np.abs(self.stratum_logits).max()
        return {
            "stratum_logits": float(np.abs(stratum_logits - self.stratum_logits).max() / scale),
            "logits": float(np.abs(logits - self.logits).max() / scale),
            "probabilities": float(np.abs(probabilities - self.probabilities).max()),
        }


def tail_case(
    faces: int = 2,
    strata: int = 3,
    channels: int = 20,
    map_size: tuple[int, int] = (7, 7),
    expressions: int = 6,
    windowed: bool = True,
    half: bool = True,
    temperature: float = 1.3,
    answer: str = "logits",
) -> TailCase:
    """Maps and weights of about the size of a network's, so that no probability is 0 or 1."""
    random = np.random.default_rng([faces, strata, channels, *map_size, expressions])
    shape = (faces * strata, channels, *map_size)
    number = np.float16 if half else np.float32
    u, h = random.normal(size=shape).astype(number), random.normal(size=shape).clip(0).astype(number)
    linear = random.normal(size=(expressions, channels))
    bias = random.normal(size=expressions)
    kernel = random.normal(size=(channels, channels, 3, 3)) / np.sqrt(9 * channels)
    kernel_bias = random.normal(size=channels) / 4
    if windowed:
        weight, shift = windowed_weights(linear, bias, kernel, kernel_bias, map_size)
    else:
        weight, shift = pooled_weights(linear, bias, map_size)
        h, kernel, kernel_bias = np.zeros_like(h), np.zeros_like(kernel), np.zeros_like(kernel_bias)
    stacked = (faces, strata, *shape[1:])
    by_stratum = strata_tail(u.reshape(stacked), h.reshape(stacked), linear, bias, kernel, kernel_bias)
    logits = by_stratum.mean(1)
    # Not `average_over_strata`: its results are in single precision.
    if answer == "logits":
        probabilities = softmax(logits / temperature)
    else:
        probabilities = softmax(by_stratum / temperature).mean(1)
    maps = h if windowed else None
    return TailCase(u, maps, weight, shift, strata, temperature, answer, probabilities, logits, by_stratum)
