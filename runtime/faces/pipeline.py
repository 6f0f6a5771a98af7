"""From frames to faces over time: find the faces, run the model on all of them, smooth the predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from iern.runtime.errors import SessionError
from iern.runtime.faces.detector_protocol import Detector
from iern.runtime.faces.face import Face, faces_from
from iern.runtime.faces.prediction import by_expression
from iern.runtime.faces.record import Size
from iern.runtime.faces.search import FaceFinder, Search
from iern.runtime.faces.smoothing import HALF_LIFE, HYSTERESIS_MARGIN, PredictionSmoother
from iern.runtime.faces.strata import StratumPredictor
from iern.runtime.faces.tracker import FaceTracker
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.preprocess import crop_faces
from iern.runtime.session import Predictions, Session
from iern.runtime.system.latency import stopwatch


@dataclass(frozen=True, eq=False)
class FoundFaces:
    """The faces that were found in one frame, before the model ran on them."""

    detections: Sequence[Detection]
    ids: Sequence[int]
    """The track of each face. Empty if faces are not followed."""
    seconds: float
    """The frame's time on its source's clock."""
    crops: NDArray[np.uint8]
    """(B, S, S, 3) uint8 BGR, the network's input."""
    detect: float
    """Milliseconds to find the faces, and to assign their ids."""
    preprocess: float
    """Milliseconds to cut the faces out."""
    frame_size: Size | None = None
    """Width and height of the frame, in pixels. None: `Face.box` is not clipped to it."""


@dataclass(frozen=True)
class PipelineResult:
    """The faces of one frame, and the milliseconds that each stage took."""

    faces: list[Face]
    detect: float
    """To find the faces, and to assign their ids."""
    preprocess: float
    """To cut the faces out."""
    infer: float
    """To run the model, and to smooth its predictions."""


class FacePipeline:
    """`pipeline(image, seconds)` -> faces with ids and smoothed predictions. Use one pipeline per source and thread.

    Pipelines in several threads may share a detector and a session.
    """

    def __init__(
        self,
        detector: Detector,
        session: Session,
        *,
        collapsed: Session | None = None,
        search: Search = "tracked",
        half_life: float = HALF_LIFE,
        margin: float = HYSTERESIS_MARGIN,
    ) -> None:
        """`collapsed` is the same model with its strata collapsed, for most frames: see `StratumPredictor`.

        `search` is where faces are looked for, see `FaceFinder`.
        `half_life` (seconds, 0: no smoothing) and `margin` (probability, 0: no hysteresis): see `PredictionSmoother`.
        """
        self.session = session
        self._find = FaceFinder(detector, search)
        self._tracker = FaceTracker()
        self._predict = StratumPredictor(session, collapsed)
        self._smoother = PredictionSmoother(session.artifact, half_life, margin)

    def __reduce__(self) -> NoReturn:
        raise SessionError(
            "a pipeline belongs to one source, and cannot be pickled or copied; make one for each source"
        )

    def __call__(self, image: np.ndarray, seconds: float, photograph: bool = False) -> PipelineResult:
        """(H, W, 3) uint8 BGR frame at `seconds` of its source's clock -> its faces, best first.

        In a `photograph`, small faces are searched for, too: see `FaceDetector.in_photograph`.
        Raises ImageError if the array is not an image, ArgumentError if the detector returns anything but faces, and
        SessionError if the model fails.
        """
        found = self.find(image, seconds, photograph)
        lap = stopwatch()
        faces = self.finish(found, self._predict(found.crops, found.ids, seconds))
        return PipelineResult(faces, found.detect, found.preprocess, infer=lap())

    def find(self, image: np.ndarray, seconds: float, photograph: bool = False) -> FoundFaces:
        """The first half of a call: find the faces. `finish` is the second half.

        Between the halves the caller runs the model, for example on the faces of several sources at once. Raises
        ImageError if the array is not an image.
        """
        lap = stopwatch()
        detections = self._find(image, seconds, photograph)
        ids = self._tracker.update(detections, seconds)
        detect = lap()
        crops = crop_faces(image, detections, self.session.artifact.input)
        size = (image.shape[1], image.shape[0])
        return FoundFaces(detections, ids, seconds, crops, detect, preprocess=lap(), frame_size=size)

    def finish(self, found: FoundFaces, predictions: Predictions) -> list[Face]:
        """The second half of a call: the model's predictions for `found.crops` -> the frame's faces, smoothed."""
        artifact, ids = self.session.artifact, found.ids
        smoothed, labels = self._smoother(ids, predictions, found.seconds)
        return [
            dataclasses.replace(
                face,
                uncertain=label.uncertain,
                track=id,
                stable_expression=artifact.expressions[label.expression],
                raw_probabilities=by_expression(raw, artifact),
                frame_size=found.frame_size,
            )
            for face, id, label, raw in zip(
                faces_from(found.detections, smoothed, artifact), ids, labels, predictions.probabilities, strict=True
            )
        ]

    def session_for(self, found: FoundFaces) -> Session:
        """The session to run on `found.crops`: with all strata, or the collapsed one."""
        return self._predict.session_for(found.ids, found.seconds)

    def complete(self, found: FoundFaces, predictions: Predictions, session: Session) -> Predictions:
        """What `session` predicted for `found.crops` -> Predictions of all strata, for `finish`."""
        return self._predict.complete(predictions, session, found.ids, found.seconds)

    @property
    def half_life(self) -> float:
        """Seconds after which a prediction counts half. 0: no smoothing. Any thread may change it."""
        return self._smoother.half_life

    @half_life.setter
    def half_life(self, seconds: float) -> None:
        self._smoother.half_life = seconds

    def reset(self) -> None:
        """Start a new scene: no later face continues the track of an earlier one."""
        self._find.reset()
        self._tracker.reset()
