"""One face of a frame with its expression: the value that the library and the loop work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from iern.runtime.faces.prediction import Answer, predictions_by_name
from iern.runtime.faces.record import JsonRecord, Size, box_in_frame, face_record

if TYPE_CHECKING:
    from iern.runtime.artifact import Artifact
    from iern.runtime.imaging.detection import Detection
    from iern.runtime.session import Predictions

UNCERTAIN = "uncertain"
"""The word that is shown and printed instead of the expression of an uncertain face."""


@dataclass(frozen=True, repr=False)
class Face(Answer):
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
    stratum_probabilities: NDArray[np.floating] | None = field(default=None, compare=False)
    """(N, E) probabilities under each stratum of the model. `probabilities` need not be their mean, see Eq. 9.

    None if the model has one stratum.
    """
    frame_size: Size | None = field(default=None, compare=False)
    """Width and height, in pixels, of the picture that shows the face. None if unknown: `box` is then not clipped."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(x, y, width, height) in pixels, in tenths, clipped to the picture, as in the records.

        The whole box, which may reach beyond the picture, is in `detection`.
        """
        x, y, width, height = box_in_frame(self, self.frame_size)
        return x, y, width, height

    def to_dict(self) -> JsonRecord:
        """The face as in the records of the loop and the service, see docs/records.md: plain numbers and text."""
        return face_record(self, self.frame_size)

    def __repr__(self) -> str:
        box = ", ".join(f"{value:g}" for value in self.box)
        return (
            f"Face(expression={self.expression!r}, probability={self.probability:.2f}, uncertain={self.uncertain}, "
            f"box=({box}), track={self.track})"
        )


def faces_from(detections: Sequence[Detection], predictions: Predictions, artifact: Artifact) -> list[Face]:
    """Combine detections with the model's predictions, one row for each, into faces."""
    return [
        Face(
            detection,
            answer.probabilities,
            answer.disagreement,
            uncertain=answer.uncertain,
            stratum_probabilities=answer.stratum_probabilities,
        )
        for detection, answer in zip(detections, predictions_by_name(predictions, artifact), strict=True)
    ]
