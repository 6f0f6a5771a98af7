"""What the loop says about a frame: its faces with their expressions, as values and as a JSON record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from iern.runtime.artifact import Artifact
    from iern.runtime.imaging.detection import Detection
    from iern.runtime.session import Answer

UNCERTAIN = "uncertain"
"""What is shown and printed instead of an expression that is too improbable to be named."""


@dataclass(frozen=True)
class Face:
    """One face of a frame and what the network says about it."""

    detection: Detection
    probabilities: dict[str, float]
    """by expression, in the model's order; they sum to 1"""
    disagreement: float
    """how much the answer depends on the context, 0 (not at all) to 1: see `stratum_disagreement`"""
    uncertain: bool = False
    """whether `probability` is below the model's threshold; a face over time turns back later than it turned"""
    track: int | None = None
    """the same number in every frame in which this face was followed; None where nobody follows faces"""
    held: str = ""
    """the expression that hysteresis keeps; empty: the likeliest"""
    raw_probabilities: dict[str, float] = field(default_factory=dict)
    """what this frame alone says; empty where `probabilities` do"""
    stratum_probabilities: NDArray[np.floating] | None = field(default=None, compare=False, repr=False)
    """(N, E) answers under the model's strata, in its order; their mean need not be `probabilities`, see Eq. 9"""

    @property
    def expression(self) -> str:
        """What the face is said to show: the likeliest expression, unless another one is `held`."""
        return self.held or max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of `expression`."""
        return self.probabilities[self.expression]


def judged_faces(detections: Sequence[Detection], answer: Answer, artifact: Artifact) -> list[Face]:
    """Detections, and the model's answer with one row for each -> their faces."""
    disagreements = stratum_disagreement(answer.stratum_logits, artifact.temperature)
    by_stratum = softmax(answer.stratum_logits / artifact.temperature)
    return [
        Face(
            detection,
            by_expression(row, artifact),
            float(disagreement),
            uncertain=bool(row.max() < artifact.threshold),
            stratum_probabilities=strata,
        )
        for detection, row, disagreement, strata in zip(
            detections, answer.probabilities, disagreements, by_stratum, strict=True
        )
    ]


def by_expression(probabilities: NDArray[np.floating], artifact: Artifact) -> dict[str, float]:
    """(E,) in the model's order -> by name."""
    return dict(zip(artifact.expressions, probabilities.tolist(), strict=True))


def stratum_disagreement(stratum_logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """(B, N, E) logits -> (B,) mean over the strata of the total variation distance to the strata's mean answer.

    Stratum i answers as if the face had been seen in its context: p_i, the softmax of its logits over the temperature.
    With p the mean of the p_i, the number is 1/N sum_i 1/2 sum_e |p_i(e) - p(e)|: how much of its probability a
    stratum puts elsewhere than all together do. It lies in [0, 1 - 1/N]. 0: the strata give the same probabilities,
    or there is but one; 1 - 1/N: each is certain of an expression of its own.
    """
    answers = softmax(stratum_logits.astype(np.float64) / temperature)
    distances = np.abs(answers - answers.mean(axis=1, keepdims=True)).sum(axis=-1) / 2
    return distances.mean(axis=1)


def softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """(..., E) logits -> (..., E) probabilities, of the same type."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
