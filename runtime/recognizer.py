"""The package as a library: an image goes in, its faces with their expressions come out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from iern.runtime.artifact import Artifact
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.providers import Model
from iern.runtime.bundled import MODEL
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.face import Face, faces_from
from iern.runtime.faces.pipeline import FacePipeline
from iern.runtime.faces.smoothing import HALF_LIFE, MARGIN
from iern.runtime.imaging.preprocess import crop_faces
from iern.runtime.sources.base import Frame
from iern.runtime.sources.open_source import open_source


class ExpressionRecognizer:
    """Finds the faces of pictures and names their expressions.

        with ExpressionRecognizer() as recognizer:
            for face in recognizer(cv2.imread("photo.jpg")):
                print(face.expression, face.probability)

    It keeps buffers, so one recognizer belongs to one thread; several may stand side by side.
    """

    def __init__(
        self,
        model: Model = MODEL,
        *,
        provider: str = "auto",
        strict: bool = False,
        threads: int | None = None,
        detector: FaceDetector | None = None,
    ) -> None:
        """`model` is an exported file (.onnx, .engine) or an .onnx file's content; by default the bundled one.

        `provider` is auto, cpu, cuda or tensorrt, and `strict` refuses to fall back to another one; `threads` are by
        default all that this process may use; a `detector` of your own may have another score threshold.
        Raises ArtifactError for a file that cannot be served, SessionError where the provider cannot run as asked.
        """
        self._detector = detector or FaceDetector()
        self._session = open_session(model, provider, strict, threads=threads)

    @property
    def artifact(self) -> Artifact:
        """What the model says about itself: its expressions, strata, threshold, licence and more."""
        return self._session.artifact

    @property
    def provider(self) -> str:
        """Where the model really runs."""
        return self._session.provider

    def __call__(self, image: np.ndarray) -> list[Face]:
        """(H, W, 3) uint8 BGR picture of any size, or grey, BGRA or 16 bits -> its faces, best first, often none.

        Each picture is by itself: for pictures that follow each other, use `video` or `following`.
        Raises ImageError for an array that is no picture, SessionError where the model fails or is closed.
        """
        (faces,) = self.batch([image])
        return faces

    def batch(self, images: Iterable[np.ndarray]) -> list[list[Face]]:
        """Pictures, each of its own size -> the faces of each; all faces go through the model together."""
        found = [(image, self._detector(image)) for image in images]
        crops = [crop_faces(image, detections, self.artifact.input) for image, detections in found]
        detections = [detection for _, detections in found for detection in detections]
        together = np.concatenate(crops) if crops else np.empty((0, *self.artifact.input.shape), np.uint8)
        faces = iter(faces_from(detections, self._session(together), self.artifact))
        return [[next(faces) for _ in detections] for _, detections in found]

    def video(
        self, source: str | int | Path, *, detect_every: int = 1, half_life: float = HALF_LIFE
    ) -> Iterator[tuple[Frame, list[Face]]]:
        """Frames of a source with their faces, which keep their `track` and have steady answers.

        `source` is a camera's number, a device, a video file, an image, a folder of images or a stream's URL. Files
        give every frame, cameras and streams the latest one. The source is opened at the first frame and closed when
        the iteration ends or is closed. The arguments are those of `iern.runtime.faces.pipeline.FacePipeline`.
        Raises SourceError where the source does not open or is lost, and what a call raises.
        """
        perceive = self.following(detect_every=detect_every, half_life=half_life)
        with open_source(source if isinstance(source, int) else str(source)) as frames:
            for frame in frames:
                yield frame, perceive(frame.image, frame.time).faces

    def following(self, *, detect_every: int = 1, half_life: float = HALF_LIFE, margin: float = MARGIN) -> FacePipeline:
        """For frames that you read yourself: `perceive = recognizer.following()`, `perceive(image, seconds).faces`.

        One for each source. See `iern.runtime.faces.pipeline.FacePipeline`.
        """
        return FacePipeline(
            self._detector, self._session, detect_every=detect_every, half_life=half_life, margin=margin
        )

    def close(self) -> None:
        """Give the model's memory back; the recognizer cannot be called afterwards."""
        self._session.close()

    def __enter__(self) -> ExpressionRecognizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
