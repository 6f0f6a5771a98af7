"""The package as a library: `ExpressionRecognizer` finds the faces in an image and recognises their expressions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iern.runtime.artifact import Artifact, Prior
from iern.runtime.backends.collapsed import open_collapsed
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.providers import Model
from iern.runtime.backends.server_address import is_served
from iern.runtime.bundled import MODEL
from iern.runtime.errors import ArgumentError, SessionError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.detector_protocol import Detector, faces_in_photograph
from iern.runtime.faces.face import Face, faces_from
from iern.runtime.faces.own_boxes import detections_of
from iern.runtime.faces.pipeline import FacePipeline
from iern.runtime.faces.prediction import Prediction, predictions_by_name
from iern.runtime.faces.record import Size
from iern.runtime.faces.search import Search
from iern.runtime.faces.smoothing import HALF_LIFE, HYSTERESIS_MARGIN
from iern.runtime.imaging.any_image import AnyImage, to_image, to_images
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import Image
from iern.runtime.imaging.preprocess import crop_faces, resize_face
from iern.runtime.sources.base import Frame
from iern.runtime.sources.open_source import open_source

FACES_TOGETHER = 64
"""Faces of a list of pictures that go through the model in one call. More are not faster, and take memory."""

SomeImage = TypeVar("SomeImage", bound=AnyImage)
Item = TypeVar("Item")


class ExpressionRecognizer:
    """Finds the faces in an image and recognises their expressions.

        with ExpressionRecognizer() as recognizer:
            for face in recognizer("photo.jpg"):
                print(face.expression, face.probability)

    Call it with one picture or a list, `classify` with ready crops of faces, and `video` with a source of frames. For
    frames that you read yourself, call `pipeline`. Threads may share a recognizer: detector and model each work for one
    thread at a time. A pickled or copied recognizer opens its model again, so it can be passed to another process.
    """

    def __init__(
        self,
        model: Model = MODEL,
        *,
        provider: str = "auto",
        strict: bool = False,
        threads: int | None = None,
        detector: Detector | None = None,
        prior: Prior | None = None,
        precision: str = "auto",
    ) -> None:
        """Open a model, by default the bundled one.

        `model` is the path of an exported file (.onnx or .engine), the content of an .onnx file, or the address of a
        served model, as triton://localhost:8000/iern, which takes no other provider. `provider` is cpu,
        cuda, tensorrt or auto, which takes CUDA if onnxruntime was built for it, and otherwise the CPU. If a provider
        cannot run the whole model, the next one is used, at last the CPU; `strict` makes that an error.
        `threads` is the number of CPU threads, by default all that this process may use. `detector` is a
        `FaceDetector` with other settings, or any function from an image to a list of `Detection`: see `Detector`.
        `prior` is how frequent the expressions are where the faces come from: `"uniform"`, or rates such as
        `{"neutral": 0.6}`, where the other expressions share the rest as the model assumes. None: as the model assumes.
        The threshold stays.
        `precision` is auto, fp32 or int8. `export/to_int8.py` makes my.int8.onnx from my.onnx, and the bundled one has
        such a file: auto takes it on a CPU where it is faster, which the first start times for about a second.
        fp32 opens the model as it is. int8 opens the 8-bit file in any case.
        Raises ArtifactError if the file cannot be used, PriorError if the model cannot be set to that prior, and
        SessionError if the provider cannot run it. A `detector` that cannot be called is an ArgumentError.
        """
        if detector is not None and not callable(detector):
            raise ArgumentError(
                f"found the detector {detector!r}; expected a function from an image to a list of iern.Detection, or a "
                "FaceDetector"
            )
        self._arguments = {
            "model": model if isinstance(model, bytes) or is_served(model) else Path(model).absolute(),
            "provider": provider,
            "strict": strict,
            "threads": threads,
            "detector": detector,
            "prior": prior,
            "precision": precision,
        }
        self._detector: Detector = FaceDetector() if detector is None else detector
        self._session = open_session(model, provider, strict, threads=threads, prior=prior, precision=precision)
        # Opened for the first pipeline, since single pictures do not need it.
        self._collapsed = functools.cache(functools.partial(open_collapsed, model, self._session, threads, prior))

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_open()
        return _open_again, (type(self), self._arguments)

    @property
    def artifact(self) -> Artifact:
        """The description of the model: its expressions, strata, threshold, licence and more."""
        return self._session.artifact

    @property
    def provider(self) -> str:
        """The provider that runs the model, which after a fallback is not the requested one."""
        return self._session.provider

    @overload
    def __call__(
        self, image: AnyImage, *, boxes: ArrayLike | None = None, landmarks: ArrayLike | None = None
    ) -> list[Face]: ...

    @overload
    def __call__(self, image: list[SomeImage] | tuple[SomeImage, ...]) -> list[list[Face]]: ...

    def __call__(
        self,
        image: AnyImage | list[SomeImage] | tuple[SomeImage, ...],
        *,
        boxes: ArrayLike | None = None,
        landmarks: ArrayLike | None = None,
    ) -> list[Face] | list[list[Face]]:
        """A picture -> its faces, best first; an empty list if there is none. A list of pictures -> a list for each.

        A picture is a path, a `file://` URL, a PIL image, or an array (H, W, 3) of uint8 in OpenCV's order blue, green,
        red, which may also be grey, BGRA or 16 bits. It may have any size. Files and PIL images are turned upright.
        The pictures of a list are read one after another, and the model runs on the faces of many together.
        Each picture is independent of the others: for successive frames, use `video` or `pipeline`, which follow faces
        and smooth their predictions. Small faces are searched for, too: in 4000x3000 pixels, faces from 40 pixels are
        found.
        With `boxes`, nothing is searched: they are (F, 4), x, y, width and height in pixels of one upright picture, of
        F faces, and the answers come in their order. `landmarks` is (F, 5, 2): x and y of the eye on the image's left,
        the eye on its right, nose tip, left and right mouth corner. Without them, the crop follows the box.
        Raises ImageError if a picture cannot be read or is none, in a list with its index; ArgumentError if boxes or
        landmarks do not fit the picture, or the detector returns anything but faces; and SessionError if the model
        fails or is closed.
        """
        if isinstance(image, (list, tuple)):
            if boxes is not None or landmarks is not None:
                raise ArgumentError(
                    "found boxes for a list of pictures; call the recognizer with one picture at a time"
                )
            return list(self._recognize(to_images(image), self._find))
        if boxes is None:
            if landmarks is not None:
                raise ArgumentError("found landmarks without boxes; pass the box of each face, too")
            find = self._find
        else:
            find = functools.partial(detections_of, boxes, landmarks)
        (faces,) = self._recognize([to_image(image)], find)
        return faces

    @overload
    def classify(self, crop: AnyImage) -> Prediction: ...

    @overload
    def classify(self, crop: list[SomeImage] | tuple[SomeImage, ...]) -> list[Prediction]: ...

    def classify(self, crop: AnyImage | list[SomeImage] | tuple[SomeImage, ...]) -> Prediction | list[Prediction]:
        """A picture that one face fills -> its prediction. A list of such pictures -> a list of predictions.

        Nothing is searched or cut: the whole picture, of any size, is scaled to the model's input. That is right for
        data sets of cropped faces such as FER2013. A picture is what it is for a call.
        Raises ImageError if a picture cannot be read or is none, and SessionError if the model fails or is closed.
        """
        if isinstance(crop, (list, tuple)):
            return list(self._classify(to_images(crop, "crops")))
        (prediction,) = self._classify([to_image(crop)])
        return prediction

    def _find(self, image: Image) -> list[Detection]:
        return faces_in_photograph(self._detector, image)

    def _recognize(self, images: Iterable[Image], find: Callable[[Image], list[Detection]]) -> Iterator[list[Face]]:
        """Yield the faces of each image. Only the crops of images that wait for the model are kept."""
        self._check_open()
        searched = (self._cut_out(image, find(image)) for image in images)
        for group in grouped(searched, FACES_TOGETHER, lambda each: len(each.detections)):
            detections = [detection for each in group for detection in each.detections]
            predictions = self._session(np.concatenate([each.crops for each in group]))
            faces = iter(faces_from(detections, predictions, self.artifact))
            for each in group:
                yield [dataclasses.replace(next(faces), frame_size=each.size) for _ in each.detections]

    def _cut_out(self, image: Image, detections: list[Detection]) -> _FoundFaces:
        crops = crop_faces(image, detections, self.artifact.input)
        return _FoundFaces((image.shape[1], image.shape[0]), detections, crops)

    def _classify(self, crops: Iterable[Image]) -> Iterator[Prediction]:
        self._check_open()
        inputs = (resize_face(crop, self.artifact.input) for crop in crops)
        for group in grouped(inputs, FACES_TOGETHER, lambda _: 1):
            yield from predictions_by_name(self._session(np.stack(group)), self.artifact)

    def video(
        self, source: str | int | Path, *, search: Search = "tracked", half_life: float = HALF_LIFE
    ) -> Iterator[tuple[Frame, list[Face]]]:
        """Yield each frame of a source with its faces. A face keeps its `track`, and its predictions are smoothed.

        `source` is the number of a camera, a device, a video file, an image, a folder of images or the URL of a stream.
        Files give every frame; cameras and streams give the latest one. The source opens at the first frame, and closes
        when the iteration ends or is closed. The other arguments are those of `pipeline`.
        Raises SourceError if the source cannot be opened or is lost, and what a call raises.
        """
        pipeline = self.pipeline(search=search, half_life=half_life)
        with open_source(source if isinstance(source, int) else str(source)) as frames:
            for frame in frames:
                yield frame, pipeline(frame.image, frame.time, frame.photograph).faces

    def pipeline(
        self, *, search: Search = "tracked", half_life: float = HALF_LIFE, margin: float = HYSTERESIS_MARGIN
    ) -> FacePipeline:
        """Return a pipeline for frames that you read yourself: `pipeline(image, seconds).faces`.

        It follows faces from frame to frame and smooths their predictions. Make one for each source. `seconds` is the
        time of the frame. With the default `search`, the whole frame is searched five times a second, and only windows
        around the known faces in between. `search="every-frame"` searches the whole of every frame, which takes longer
        and finds a new face at once. If a file with collapsed strata lies beside the model, it runs in most frames, and
        all strata once a second: see `StratumPredictor`. The weight of a prediction is halved after `half_life` seconds
        (0: no smoothing). Another expression must lead by the probability `margin` to become the expression of the face
        (0: each frame counts by itself).
        Raises SessionError if the recognizer is closed.
        """
        self._check_open()
        return FacePipeline(
            self._detector,
            self._session,
            collapsed=self._collapsed(),
            search=search,
            half_life=half_life,
            margin=margin,
        )

    def close(self) -> None:
        """Free the model's memory. The recognizer cannot be called afterwards."""
        self._session.close()
        collapsed = self._collapsed() if self._collapsed.cache_info().currsize else None
        if collapsed is not None:
            collapsed.close()

    def _check_open(self) -> None:
        if self._session.closed:
            raise SessionError("the recognizer is closed; make a new one")

    def __enter__(self) -> ExpressionRecognizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_again(kind: type[ExpressionRecognizer], arguments: dict[str, Any]) -> ExpressionRecognizer:
    """Make a recognizer from the arguments of a pickled one."""
    return kind(**arguments)


@dataclass(frozen=True, eq=False)
class _FoundFaces:
    """The faces of one image, before the model ran on them."""

    size: Size
    """Width and height of the image."""
    detections: list[Detection]
    crops: NDArray[np.uint8]
    """(F, S, S, 3), the network's input."""


def grouped(items: Iterable[Item], weight: int, weight_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield the items in order, in lists that each weigh at least `weight`; the last one may weigh less."""
    group: list[Item] = []
    for item in items:
        group.append(item)
        if sum(map(weight_of, group)) >= weight:
            yield group
            group = []
    if group:
        yield group
