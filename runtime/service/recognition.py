"""Several requests -> a result for each: every picture is searched by itself, and the model runs on all faces at once.

A failure stays with its own request: the others of the batch are answered.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from iern.runtime.errors import ServerLostError
from iern.runtime.faces.detector_protocol import Detector, faces_in_photograph
from iern.runtime.faces.face import faces_from
from iern.runtime.faces.pipeline import FacePipeline, FoundFaces
from iern.runtime.imaging.images import Image, decode_image
from iern.runtime.imaging.preprocess import crop_faces
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.session import Predictions, Session, split
from iern.runtime.sources.base import Frame
from iern.runtime.system.latency import Latency, stopwatch


@dataclass(frozen=True, eq=False)
class Request:
    """One encoded picture that waits for its answer."""

    data: bytes
    pixels: int
    """Width times height, by the header."""
    name: str = "image"
    """What the record and errors call it."""
    arrived: float = field(default_factory=time.monotonic)
    index: int = 0
    seconds: float = 0.0
    """The time of a camera's frame since its connection began."""
    pipeline: FacePipeline | None = None
    """Follows the faces of one camera. None: a picture by itself, in which small faces are searched for, too."""


class Recognition:
    """`recognition(requests)` -> a FrameResult or the error of each. Use it from one thread."""

    def __init__(self, detector: Detector, session: Session) -> None:
        self.session = session
        self._detector = detector

    def warm_up(self) -> None:
        """Run the detector and the model once. Their first calls allocate and optimise, which takes long."""
        self._detector(np.zeros((480, 640, 3), np.uint8))
        self.session(np.zeros((1, *self.session.artifact.input.shape), np.uint8))

    def pipeline(self) -> FacePipeline:
        """A pipeline for the frames of one camera."""
        return FacePipeline(self._detector, self.session)

    def __call__(self, requests: Sequence[Request]) -> list[FrameResult | Exception]:
        """The results in the order of the requests."""
        found = [self._find(request) for request in requests]
        searched = [each for each in found if isinstance(each, _Searched)]
        answered = map(self._finish, searched, self._predict(searched))
        return [next(answered) if isinstance(each, _Searched) else each for each in found]

    def _find(self, request: Request) -> _Searched | Exception:
        """Decode one picture and find its faces. Whatever fails is returned, since the other pictures continue."""
        try:
            image = decode_image(request.data, request.name)
            if request.pipeline:
                return _Searched(request, image, request.pipeline.find(image, request.seconds))
            lap = stopwatch()
            detections = faces_in_photograph(self._detector, image)
            detect = lap()
            crops = crop_faces(image, detections, self.session.artifact.input)
            return _Searched(request, image, FoundFaces(detections, (), 0.0, crops, detect, preprocess=lap()))
        except Exception as error:
            return error

    def _predict(self, searched: Sequence[_Searched]) -> list[_Predicted | Exception]:
        """Run the model on the faces of all pictures together. If that fails, run it on each picture's alone."""
        if not searched:
            return []
        lap = stopwatch()
        try:
            predictions = self.session(np.concatenate([each.found.crops for each in searched]))
        except Exception as error:
            if len(searched) == 1 or isinstance(error, ServerLostError):
                return [error] * len(searched)
            return [self._predict([each])[0] for each in searched]
        infer = lap()
        counts = [len(each.found.detections) for each in searched]
        return [_Predicted(rows, infer) for rows in split(predictions, counts)]

    def _finish(self, searched: _Searched, predicted: _Predicted | Exception) -> FrameResult | Exception:
        """Combine one picture's faces with their predictions."""
        if isinstance(predicted, Exception):
            return predicted
        request, found = searched.request, searched.found
        try:
            if request.pipeline:
                faces = request.pipeline.finish(found, predicted.rows)
            else:
                faces = faces_from(found.detections, predicted.rows, self.session.artifact)
        except Exception as error:
            return error
        photograph = request.pipeline is None
        frame = Frame(
            searched.image, request.seconds, request.index, request.name, request.arrived, photograph=photograph
        )
        age = 1000 * (time.monotonic() - request.arrived)
        return FrameResult(frame, faces, Latency(found.detect, found.preprocess, predicted.infer, age), status="")


@dataclass(frozen=True, eq=False)
class _Searched:
    """A decoded picture with the faces that were found in it."""

    request: Request
    image: Image
    found: FoundFaces


@dataclass(frozen=True, eq=False)
class _Predicted:
    """The model's predictions for the faces of one picture."""

    rows: Predictions
    infer: float
    """Milliseconds of the call, which other pictures may have shared."""
