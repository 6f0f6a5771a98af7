"""One face of a frame with its expression: the value that the library and the loop work with."""

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
"""The word that is shown and printed instead of the expression of an uncertain face."""


@dataclass(frozen=True)
class Face:
    """One face of a frame with the model's predictions for it."""

    detection: Detection
    probabilities: dict[str, float]
    """Expression -> probability, in the model's order. They sum to 1."""
    disagreement: float | None
    """How far the confounder strata disagree, from 0 (not at all) to 1: see `stratum_disagreement`.

    None if the model has one stratum, as a file with collapsed strata does.
    """
    uncertain: bool = False
    """Whether `probability` is below the model's threshold. On a track, this changes with hysteresis."""
    track: int | None = None
    """The id of the track: the same in every frame of a face that is followed. None for a single picture."""
    stable_expression: str = ""
    """The expression of the track after hysteresis. Empty: the likeliest one."""
    raw_probabilities: dict[str, float] = field(default_factory=dict)
    """Expression -> probability from this frame alone. Empty if that is `probabilities`."""
    stratum_probabilities: NDArray[np.floating] | None = field(default=None, compare=False, repr=False)
    """(N, E) probabilities under each stratum of the model. `probabilities` need not be their mean, see Eq. 9.

    None if the model has one stratum.
    """

    @property
    def expression(self) -> str:
        """The expression to report: `stable_expression`, or the likeliest one."""
        return self.stable_expression or max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of `expression`."""
        return self.probabilities[self.expression]


def faces_from(detections: Sequence[Detection], predictions: Predictions, artifact: Artifact) -> list[Face]:
    """Combine detections with the model's predictions, one row for each, into faces."""
    disagreements: Sequence[float | None] = [None] * len(detections)
    by_stratum: Sequence[NDArray[np.floating] | None] = [None] * len(detections)
    if artifact.has_strata:
        disagreements = stratum_disagreement(predictions.stratum_logits, artifact.temperature).tolist()
        by_stratum = list(softmax(predictions.stratum_logits / artifact.temperature))
    return [
        Face(
            detection,
            by_expression(row, artifact),
            disagreement,
            uncertain=bool(row.max() < artifact.threshold),
            stratum_probabilities=strata,
        )
        for detection, row, disagreement, strata in zip(
            detections, predictions.probabilities, disagreements, by_stratum, strict=True
        )
    ]


def by_expression(probabilities: NDArray[np.floating], artifact: Artifact) -> dict[str, float]:
    """(E,) probabilities in the model's order -> expression -> probability."""
    return dict(zip(artifact.expressions, probabilities.tolist(), strict=True))
