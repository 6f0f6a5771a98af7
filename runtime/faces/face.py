"""What the loop says about a frame: its faces with their expressions, as values and as a JSON record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from iern.runtime.intervention import softmax, stratum_disagreement

if TYPE_CHECKING:
    from iern.runtime.artifact import Artifact
    from iern.runtime.imaging.detection import Detection
    from iern.runtime.session import Predictions

UNCERTAIN = "uncertain"
"""What is shown and printed instead of an expression that is too improbable to be named."""


@dataclass(frozen=True)
class Face:
    """One face of a frame and what the network says about it."""

    detection: Detection
    probabilities: dict[str, float]
    """By expression, in the model's order; they sum to 1."""
    disagreement: float
    """How much the answer depends on the context, 0 (not at all) to 1: see `stratum_disagreement`."""
    uncertain: bool = False
    """Whether `probability` is below the model's threshold; a face over time turns back later than it turned."""
    track: int | None = None
    """The same number in every frame in which this face was followed; None where nobody follows faces."""
    held: str = ""
    """The expression that hysteresis keeps; empty: the likeliest."""
    raw_probabilities: dict[str, float] = field(default_factory=dict)
    """What this frame alone says; empty where `probabilities` do."""
    stratum_probabilities: NDArray[np.floating] | None = field(default=None, compare=False, repr=False)
    """(N, E) answers under the model's strata, in its order; their mean need not be `probabilities`, see Eq. 9."""

    @property
    def expression(self) -> str:
        """What the face is said to show: the likeliest expression, unless another one is `held`."""
        return self.held or max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of `expression`."""
        return self.probabilities[self.expression]


def faces_from(detections: Sequence[Detection], answer: Predictions, artifact: Artifact) -> list[Face]:
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
