"""From a frame to its faces over time: find or follow them, judge them in one batch, and steady the answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.face import Face, by_expression, faces_from
from iern.runtime.faces.optical_flow import FaceFinder
from iern.runtime.faces.smoothing import HALF_LIFE, MARGIN, PredictionSmoother
from iern.runtime.faces.tracker import FaceTracker
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.preprocess import crop_faces
from iern.runtime.session import Predictions, Session
from iern.runtime.system.latency import stopwatch


@dataclass(frozen=True)
class PipelineResult:
    """The faces of one frame, and the milliseconds that each stage took."""

    faces: list[Face]
    detect: float
    """Finding or following the faces, and their ids."""
    preprocess: float
    infer: float
    """The model's answers, and steadying them."""


class FacePipeline:
    """`perceive(image, seconds)` -> faces with ids and steady answers. One source each, one thread each."""

    def __init__(
        self,
        detector: FaceDetector,
        session: Session,
        *,
        detect_every: int = 1,
        half_life: float = HALF_LIFE,
        margin: float = MARGIN,
    ) -> None:
        """Detect in every `detect_every`-th frame, and follow the faces between, as far as that succeeds.

        `half_life` in seconds (0: none) and `margin` of probability (0: none): see `PredictionSmoother`.
        """
        self.session = session
        self._find = FaceFinder(detector, detect_every)
        self._tracker = FaceTracker()
        self._smoother = PredictionSmoother(session.artifact, half_life, margin)

    def __call__(self, image: np.ndarray, seconds: float) -> PipelineResult:
        """(H, W, 3) uint8 BGR frame at `seconds` of its source's clock -> its faces, best first.

        Raises ImageError for an array that is no frame, and SessionError where the model fails.
        """
        lap = stopwatch()
        detections = self._find(image, seconds)
        ids = self._tracker.update(detections, seconds)
        detect = lap()
        crops = crop_faces(image, detections, self.session.artifact.input)
        preprocess = lap()
        faces = self._judged(detections, ids, self.session(crops), seconds)
        return PipelineResult(faces, detect, preprocess, infer=lap())

    def new_scene(self) -> None:
        """What follows shows something else, or from elsewhere: no face in it continues one from before."""
        self._find.new_scene()
        self._tracker.new_scene()

    def _judged(
        self, detections: Sequence[Detection], ids: Sequence[int], answer: Predictions, seconds: float
    ) -> list[Face]:
        artifact = self.session.artifact
        smoothed, names = self._smoother(ids, answer, seconds)
        return [
            dataclasses.replace(
                face,
                uncertain=name.uncertain,
                track=id,
                held=artifact.expressions[name.expression],
                raw_probabilities=by_expression(raw, artifact),
            )
            for face, id, name, raw in zip(
                faces_from(detections, smoothed, artifact), ids, names, answer.probabilities, strict=True
            )
        ]
