"""Predictions over time: exponential smoothing of a face's logits, and a label with hysteresis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from iern.runtime.faces.tracker import MAX_GAP
from iern.runtime.intervention import average_over_strata

if TYPE_CHECKING:
    from iern.runtime.artifact import Artifact
    from iern.runtime.session import Predictions

HALF_LIFE = 0.05
"""Seconds after which the weight of a prediction is halved, see benchmarks/results/flicker.md."""

HYSTERESIS_MARGIN = 0.2
"""A label changes when another expression leads by this probability, or when its own is this far below the threshold.

The value, as that of the half-life, comes from `python -m benchmarks.flicker`.
"""


@dataclass(frozen=True)
class FaceLabel:
    """The current expression of a face."""

    expression: int
    """Index in the model's order."""
    uncertain: bool


@dataclass(frozen=True, eq=False)
class _State:
    seconds: float
    stratum_logits: NDArray[np.float64]
    """(N, E), smoothed."""
    label: FaceLabel


class PredictionSmoother:
    """`smoother(ids, predictions, seconds)` -> smoothed predictions and labels. A new id starts without a history."""

    def __init__(self, artifact: Artifact, half_life: float = HALF_LIFE, margin: float = HYSTERESIS_MARGIN) -> None:
        """`half_life` is in seconds (0: no smoothing). `margin` is a probability (0: no hysteresis).

        Any thread may change `half_life`. The next call takes it.
        """
        self.artifact = artifact
        self.half_life = half_life
        self.margin = margin
        self._states: dict[int, _State] = {}

    def __call__(
        self, ids: Sequence[int], predictions: Predictions, seconds: float
    ) -> tuple[Predictions, list[FaceLabel]]:
        """Smooth predictions, one row for each id, at `seconds` of the source's clock.

        The logits of each stratum are smoothed. The mean over the strata is linear, so it is smoothed as well.
        """
        self._states = {id: state for id, state in self._states.items() if 0 <= seconds - state.seconds < MAX_GAP}
        half_life = self.half_life  # read once: another thread may change it
        stratum_logits = self._smooth(ids, predictions.stratum_logits, seconds, half_life)
        if half_life:
            predictions = average_over_strata(stratum_logits, self.artifact)
        labels = []
        for id, row, probabilities in zip(ids, stratum_logits, predictions.probabilities, strict=True):
            before = self._states.get(id)
            label = update_label(probabilities, before.label if before else None, self.artifact.threshold, self.margin)
            self._states[id] = _State(seconds, row, label)
            labels.append(label)
        return predictions, labels

    def _smooth(
        self, ids: Sequence[int], logits: NDArray[np.float32], seconds: float, half_life: float
    ) -> NDArray[np.float64]:
        """(B, N, E) logits -> the same shape, smoothed over the history of each id."""
        smoothed = logits.astype(np.float64)
        for row, id in zip(smoothed, ids, strict=True):
            before = self._states.get(id)
            # Without this check one NaN would stay in the history for ever.
            if half_life and before and np.isfinite(before.stratum_logits).all():
                row[:] = smooth(before.stratum_logits, row, seconds - before.seconds, half_life)
        return smoothed


def smooth(
    before: NDArray[np.float64], now: NDArray[np.float64], elapsed: float, half_life: float
) -> NDArray[np.float64]:
    """Exponential smoothing in time: the value of `elapsed` seconds ago has the weight 2 ** -(elapsed / half_life)."""
    weight = 0.5 ** (elapsed / half_life)
    return weight * before + (1 - weight) * now


def update_label(
    probabilities: NDArray[np.floating], before: FaceLabel | None, threshold: float, margin: float
) -> FaceLabel:
    """(E,) probabilities and the previous label of a face -> its label now.

    A new expression must reach the threshold and lead the previous one by more than `margin`. The previous one stays
    certain down to the threshold minus `margin`. After an uncertain label there is no hysteresis.
    """
    likeliest = int(probabilities.argmax())
    if before is None or before.uncertain or probabilities[likeliest] > probabilities[before.expression] + margin:
        return FaceLabel(likeliest, uncertain=bool(probabilities[likeliest] < threshold))
    return FaceLabel(before.expression, uncertain=bool(probabilities[before.expression] < threshold - margin))
