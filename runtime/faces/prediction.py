"""The model's answer for one face: probabilities by name, the expression, and whether it is uncertain."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from iern.runtime.faces.record import JsonRecord, prediction_record
from iern.runtime.intervention import softmax, stratum_disagreement

if TYPE_CHECKING:
    from iern.runtime.artifact import Artifact
    from iern.runtime.session import Predictions


class Answer(ABC):
    """What a `Face` in a picture and the `Prediction` for a ready crop have in common."""

    probabilities: dict[str, float]
    disagreement: float | None
    uncertain: bool
    stable_expression: str = ""

    @property
    def expression(self) -> str:
        """The expression to report: that of the track after hysteresis, or the likeliest one."""
        return self.stable_expression or max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of `expression`."""
        return self.probabilities[self.expression]

    @abstractmethod
    def to_dict(self) -> JsonRecord:
        """Plain numbers and text, with the keys of the records: see docs/records.md."""

    def to_json(self) -> str:
        """`to_dict` as JSON, on one line."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, repr=False)
class Prediction(Answer):
    """The model's answer for a crop that shows one face."""

    probabilities: dict[str, float]
    """Expression -> probability, in the model's order. They sum to 1."""
    disagreement: float | None
    """How far the confounder strata disagree, from 0 (not at all) to 1: see `stratum_disagreement`.

    None if the model has one stratum, as a file with collapsed strata does.
    """
    uncertain: bool = False
    """Whether `probability` is below the model's threshold."""
    stratum_probabilities: NDArray[np.floating] | None = field(default=None, compare=False)
    """(N, E) probabilities under each stratum of the model. `probabilities` need not be their mean, see Eq. 9.

    None if the model has one stratum.
    """

    def to_dict(self) -> JsonRecord:
        """The keys of a face's record that say what the model answers, see docs/records.md."""
        return prediction_record(self)

    def __repr__(self) -> str:
        return (
            f"Prediction(expression={self.expression!r}, probability={self.probability:.2f}, "
            f"uncertain={self.uncertain})"
        )


def predictions_by_name(predictions: Predictions, artifact: Artifact) -> list[Prediction]:
    """The model's predictions for B faces -> B predictions with the names of the model's expressions."""
    disagreements: Sequence[float | None] = [None] * len(predictions.probabilities)
    by_stratum: Sequence[NDArray[np.floating] | None] = [None] * len(predictions.probabilities)
    if artifact.has_strata:
        disagreements = stratum_disagreement(predictions.stratum_logits, artifact.temperature).tolist()
        by_stratum = list(softmax(predictions.stratum_logits / artifact.temperature))
    return [
        Prediction(by_expression(row, artifact), disagreement, bool(row.max() < artifact.threshold), strata)
        for row, disagreement, strata in zip(predictions.probabilities, disagreements, by_stratum, strict=True)
    ]


def by_expression(probabilities: NDArray[np.floating], artifact: Artifact) -> dict[str, float]:
    """(E,) probabilities in the model's order -> expression -> probability."""
    return dict(zip(artifact.expressions, probabilities.tolist(), strict=True))
