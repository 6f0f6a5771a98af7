"""What the loop says about a frame: its faces with their expressions, as values and as a JSON record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from iern.runtime.latency import Latency

if TYPE_CHECKING:
    from iern.runtime.detect import Detection
    from iern.runtime.session import Answer
    from iern.runtime.sources import Frame

SCHEMA = 1
"""Version of the JSON record; a reader of version 1 may meet new keys, never other meanings of old ones."""


@dataclass(frozen=True)
class Face:
    """One face of a frame and what the network says about it."""

    detection: Detection
    probabilities: dict[str, float]
    """by expression, in the model's order; they sum to 1"""
    disagreement: float
    """how much the answer depends on the context, 0 (not at all) to 1: see `stratum_disagreement`"""

    @property
    def expression(self) -> str:
        """The likeliest expression."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of `expression`."""
        return self.probabilities[self.expression]


def judged_faces(detections: Sequence[Detection], answer: Answer, expressions: Sequence[str]) -> list[Face]:
    """Detections, and an answer with one row for each -> their faces."""
    rows = zip(detections, answer.probabilities, stratum_disagreement(answer.stratum_logits), strict=True)
    return [
        Face(detection, dict(zip(expressions, row.tolist(), strict=True)), float(disagreement))
        for detection, row, disagreement in rows
    ]


def stratum_disagreement(stratum_logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """(B, N, E) logits -> (B,) mean over the strata of the total variation distance to the strata's mean answer.

    Each stratum answers as if the face had been seen in its context. 0: they all give the same probabilities.
    """
    logits = stratum_logits.astype(np.float64)
    answers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    answers /= answers.sum(axis=-1, keepdims=True)
    distances = np.abs(answers - answers.mean(axis=1, keepdims=True)).sum(axis=-1) / 2
    return distances.mean(axis=1)


def record(frame: Frame, faces: Sequence[Face], latency: Latency) -> dict[str, Any]:
    """The JSON record of one frame: plain numbers and text. Box and landmarks in pixels, times as named."""
    return {
        "schema": SCHEMA,
        "frame": frame.index,
        "time": round(frame.time, 4),
        "name": frame.name,
        "faces": [
            {
                "box": [round(v, 1) for v in (face.detection.x, face.detection.y, *_size(face.detection))],
                "score": round(face.detection.score, 4),
                "expression": face.expression,
                "probability": round(face.probability, 6),
                "probabilities": {name: round(value, 6) for name, value in face.probabilities.items()},
                "disagreement": round(face.disagreement, 6),
            }
            for face in faces
        ],
        "latency_ms": {name: round(value, 3) for name, value in latency.stages().items()},
    }


def _size(detection: Detection) -> tuple[float, float]:
    return detection.width, detection.height
