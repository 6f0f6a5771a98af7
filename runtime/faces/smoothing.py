"""A face's answers over time: logits smoothed by the clock, and names that do not change on a hair's breadth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from iern.runtime.faces.tracker import PATIENCE
from iern.runtime.intervention import average_over_strata

if TYPE_CHECKING:
    from iern.runtime.artifact import Artifact
    from iern.runtime.session import Predictions

HALF_LIFE = 0.1
"""Seconds after which an answer to a face counts half; see benchmarks/results/flicker.md."""


MARGIN = 0.1
"""Probability by which another expression must lead to take over the name, or a name may fall below the threshold.

Chosen, with the half-life, by `python -m benchmarks.flicker`.
."""


@dataclass(frozen=True)
class FaceLabel:
    """What a face is called for now."""

    expression: int
    """Index in the model's order."""
    uncertain: bool


@dataclass(frozen=True, eq=False)
class _State:
    seconds: float
    strata: NDArray[np.float64]
    """(N, E) smoothed logits."""
    name: FaceLabel


class PredictionSmoother:
    """`smoother(ids, answer, seconds)` -> the smoothed answer and the faces' names. A new id starts afresh."""

    def __init__(self, artifact: Artifact, half_life: float = HALF_LIFE, margin: float = MARGIN) -> None:
        """`half_life` in seconds, 0: no smoothing; `margin` of probability, 0: no hysteresis."""
        self.artifact = artifact
        self.half_life = half_life
        self.margin = margin
        self._states: dict[int, _State] = {}

    def __call__(self, ids: Sequence[int], answer: Predictions, seconds: float) -> tuple[Predictions, list[FaceLabel]]:
        """Ids and an answer with one row for each, at `seconds` of the source's clock -> the same, steadier.

        The strata's logits are smoothed; the mean over the strata, being linear, is then smoothed as well.
        """
        self._states = {id: state for id, state in self._states.items() if 0 <= seconds - state.seconds < PATIENCE}
        strata = self._smoothed(ids, answer.stratum_logits, seconds)
        if self.half_life:
            answer = average_over_strata(strata, self.artifact)
        names = []
        for id, row, probabilities in zip(ids, strata, answer.probabilities, strict=True):
            before = self._states.get(id)
            name = named(probabilities, before.name if before else None, self.artifact.threshold, self.margin)
            self._states[id] = _State(seconds, row, name)
            names.append(name)
        return answer, names

    def _smoothed(self, ids: Sequence[int], logits: NDArray[np.float32], seconds: float) -> NDArray[np.float64]:
        """(B, N, E) logits -> the same, each face's blended with what was known of it."""
        strata = logits.astype(np.float64)
        for row, id in zip(strata, ids, strict=True):
            before = self._states.get(id)
            if self.half_life and before and np.isfinite(before.strata).all():  # one NaN must not stay for ever
                row[:] = blended(before.strata, row, seconds - before.seconds, self.half_life)
        return strata


def blended(
    before: NDArray[np.float64], now: NDArray[np.float64], elapsed: float, half_life: float
) -> NDArray[np.float64]:
    """Exponential smoothing by the clock: what was known `elapsed` seconds ago keeps 2 ** -(elapsed / half_life)."""
    kept = 0.5 ** (elapsed / half_life)
    return kept * before + (1 - kept) * now


def named(probabilities: NDArray[np.floating], before: FaceLabel | None, threshold: float, margin: float) -> FaceLabel:
    """(E,) probabilities and the face's last name -> its name now.

    To be named, an expression needs the threshold, and a lead of `margin` over the one named before. To keep its
    name it needs the threshold less `margin`. An uncertain face shows no name that would have to be kept.
    """
    likeliest = int(probabilities.argmax())
    if before is None or before.uncertain or probabilities[likeliest] > probabilities[before.expression] + margin:
        return FaceLabel(likeliest, uncertain=bool(probabilities[likeliest] < threshold))
    return FaceLabel(before.expression, uncertain=bool(probabilities[before.expression] < threshold - margin))
