"""The package as a library: `ExpressionRecognizer` finds the faces in an image and recognises their expressions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from iern.runtime.artifact import Artifact, Prior
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.providers import Model
from iern.runtime.bundled import MODEL
from iern.runtime.errors import ImageError, SessionError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.face import Face, faces_from
from iern.runtime.faces.pipeline import FacePipeline
from iern.runtime.faces.search import Search
from iern.runtime.faces.smoothing import HALF_LIFE, HYSTERESIS_MARGIN
from iern.runtime.imaging.images import Image, as_bgr
from iern.runtime.imaging.preprocess import crop_faces
from iern.runtime.sources.base import Frame
from iern.runtime.sources.open_source import open_source


class ExpressionRecognizer:
    """Finds the faces in an image and recognises their expressions.

        with ExpressionRecognizer() as recognizer:
            for face in recognizer(cv2.imread("photo.jpg")):
                print(face.expression, face.probability)

    Call it with one image, `batch` with several, `video` with a source of frames. For frames that you read yourself,
    call `pipeline`. Threads may share a recognizer: detector and model each work for one thread at a time. A pickled or
    copied recognizer opens its model again, so it can be passed to another process.
    """

    def __init__(
        self,
        model: Model = MODEL,
        *,
        provider: str = "auto",
        strict: bool = False,
        threads: int | None = None,
        detector: FaceDetector | None = None,
        prior: Prior | None = None,
        precision: str = "auto",
    ) -> None:
        """Open a model, by default the bundled one.

        `model` is the path of an exported file (.onnx or .engine), or the content of an .onnx file. `provider` is cpu,
        cuda, tensorrt or auto, which takes CUDA if onnxruntime was built for it, and otherwise the CPU. If a provider
        cannot run the whole model, the next one is used, at last the CPU; `strict` makes that an error.
        `threads` is the number of CPU threads, by default all that this process may use. Pass a `detector` to change
        the score from which a face counts.
        `prior` is how frequent the expressions are where the faces come from: `"uniform"`, or rates such as
        `{"neutral": 0.6}`, where the other expressions share the rest as the model assumes. None: as the model assumes.
        The threshold stays.
        `precision` is auto, fp32 or int8. `export/to_int8.py` makes my.int8.onnx from my.onnx, and the bundled one has
        such a file: auto takes it on a CPU where it is faster, which the first start times for about a second.
        fp32 opens the model as it is. int8 opens the 8-bit file in any case.
        Raises ArtifactError if the file cannot be used, PriorError if the model cannot be set to that prior, and
        SessionError if the provider cannot run it.
        """
        self._arguments = {
            "model": model if isinstance(model, bytes) else Path(model).absolute(),
            "provider": provider,
            "strict": strict,
            "threads": threads,
            "detector": detector,
            "prior": prior,
            "precision": precision,
        }
        self._detector = detector or FaceDetector()
        self._session = open_session(model, provider, strict, threads=threads, prior=prior, precision=precision)

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

    def __call__(self, image: np.ndarray) -> list[Face]:
        """(H, W, 3) uint8 BGR image -> its faces, best first; an empty list if there is none.

        The image may have any size, and may be grey, BGRA or 16 bits. Each call is independent of the others: for
        successive frames, use `video` or `pipeline`, which follow faces and smooth their predictions.
        Small faces are searched for, too: in 4000x3000 pixels, faces from 40 pixels are found.
        Raises ImageError if the array is not an image, and SessionError if the model fails or is closed.
        """
        (faces,) = self._recognize([as_bgr(image)])
        return faces

    def batch(self, images: Iterable[np.ndarray]) -> list[list[Face]]:
        """Images of any sizes -> a list of faces for each. The model runs on all their faces together.

        `images` is a list, another iterable, or one array (N, H, W, 3). Raises what a call raises. An ImageError names
        the index of the image.
        """
        return self._recognize(_checked_images(images))

    def _recognize(self, images: Iterable[Image]) -> list[list[Face]]:
        self._check_open()
        found = [(image, self._detector.in_photograph(image)) for image in images]
        crops = [crop_faces(image, detections, self.artifact.input) for image, detections in found]
        detections = [detection for _, detections in found for detection in detections]
        together = np.concatenate(crops) if crops else np.empty((0, *self.artifact.input.shape), np.uint8)
        faces = iter(faces_from(detections, self._session(together), self.artifact))
        return [[next(faces) for _ in detections] for _, detections in found]

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
        and finds a new face at once. The weight of a prediction is halved after `half_life` seconds (0: no smoothing).
        Another expression must lead by the probability `margin` to become the expression of the face (0: each frame
        counts by itself).
        Raises SessionError if the recognizer is closed.
        """
        self._check_open()
        return FacePipeline(self._detector, self._session, search=search, half_life=half_life, margin=margin)

    def close(self) -> None:
        """Free the model's memory. The recognizer cannot be called afterwards."""
        self._session.close()

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


def _checked_images(images: Iterable[np.ndarray]) -> Iterator[Image]:
    """Yield the images as (H, W, 3) uint8. Raises ImageError if `images` holds none, or one of them is no image."""
    expected = "expected a list of images; for one image call recognizer(image)"
    if isinstance(images, np.ndarray) and images.dtype != object and images.ndim != 4:
        raise ImageError(f"found one array of shape {images.shape}, {expected}")
    if isinstance(images, (str, bytes, Mapping)) or not isinstance(images, Iterable):
        raise ImageError(f"found {type(images).__name__}, {expected}")
    for index, image in enumerate(images):
        try:
            yield as_bgr(image)
        except ImageError as error:
            raise ImageError(f"images[{index}]: {error}") from error
