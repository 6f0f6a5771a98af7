"""Peers that are a file: this project's exported models, and the model of OpenCV's zoo."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.common.turns import elapsed
from benchmarks.peers.peer import Face, Peer, in_seven
from iern.runtime.backends.onnx import open_session
from iern.runtime.imaging.detection import landmarks_of
from iern.runtime.imaging.images import Image
from iern.runtime.imaging.preprocess import InputSpec, crop_faces, resize_face
from iern.runtime.session import Session
from iern.runtime.system.files import sha256

ZOO_CLASSES = ("angry", "disgust", "fearful", "happy", "neutral", "sad", "surprised")
ZOO_SIDE = 112
"""Pixels of the network's input."""
ZOO_LANDMARKS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""(5, 2) Where eyes, nose and mouth corners are moved to, in pixels of that input."""


class OurModel(Peer):
    """An exported model of this project, on the CPU."""

    install = "pass an exported .onnx"
    crop = "as its metadata says"
    preprocessing = "as its metadata says"
    source = "runtime/imaging/preprocess.py"
    also_tight = False

    def __init__(self, path: Path) -> None:
        """Open the file. Raises IernError if it cannot be opened, or does not know the seven expressions."""
        self.name = path.name
        self._path = path
        self._session: Session = open_session(path, provider="cpu", threads=1)
        expressions = self._session.artifact.expressions
        in_seven(np.ones((1, len(expressions))), expressions)

    @property
    def version(self) -> str:
        return sha256(self._path)[:12]

    @property
    def weights(self) -> int:
        return self._path.stat().st_size

    def available(self) -> str | None:
        return None

    def predict(self, faces: Sequence[Face]) -> NDArray[np.float32]:
        answers = self._session(np.concatenate([self._input(face) for face in faces]))
        return in_seven(answers.probabilities, self._session.artifact.expressions)

    def milliseconds(self, face: Face) -> float:
        prepared = self._input(face)
        return elapsed(lambda: self._session(prepared))

    def close(self) -> None:
        self._session.close()

    def _input(self, face: Face) -> NDArray[np.uint8]:
        spec = self._session.artifact.input
        if face.detection is None:
            return resize_face(face.picture, spec)[None]
        return crop_faces(face.picture, [face.detection], spec)


class ZooModel(Peer):
    """facial_expression_recognition_mobilefacenet_2022july.onnx, run by OpenCV as in the zoo."""

    name = "OpenCV Zoo, MobileFaceNet"
    install = (
        "pass --opencv-zoo FILE: facial_expression_recognition_mobilefacenet_2022july.onnx from "
        "https://github.com/opencv/opencv_zoo, models/facial_expression_recognition"
    )
    crop = "the similarity that moves the five landmarks nearest to its standard points"
    preprocessing = "RGB, 112 x 112, -1 to 1; a cropped face is resized to that"
    source = "`FaceAlignment` and `FacialExpressionRecog` in facial_fer_model.py of the zoo"
    also_tight = False  # it crops by the landmarks

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @property
    def version(self) -> str:
        return sha256(self._file)[:12]

    @property
    def weights(self) -> int:
        return self._file.stat().st_size

    def available(self) -> str | None:
        if self._path is None:
            return "no file is given"
        try:
            self._network  # noqa: B018 - loads it
        except (cv2.error, OSError) as error:
            return f"{self._path.name} cannot be loaded ({str(error).splitlines()[0]})"
        return None

    def predict(self, faces: Sequence[Face]) -> NDArray[np.float32]:
        logits = np.stack([self._forward(zoo_input(face)) for face in faces]).astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return in_seven(powers / powers.sum(axis=1, keepdims=True), ZOO_CLASSES)

    def milliseconds(self, face: Face) -> float:
        prepared = zoo_input(face)
        return elapsed(lambda: self._forward(prepared))

    @property
    def _file(self) -> Path:
        assert self._path is not None
        return self._path

    @cached_property
    def _network(self) -> cv2.dnn.Net:
        return cv2.dnn.readNetFromONNX(np.frombuffer(self._file.read_bytes(), np.uint8))

    def _forward(self, face: NDArray[np.float32]) -> NDArray[np.float32]:
        self._network.setInput(face)
        return self._network.forward()[0]


def zoo_input(face: Face) -> NDArray[np.float32]:
    """(1, 3, 112, 112) RGB, -1 to 1."""
    colour = cv2.cvtColor(_aligned(face), cv2.COLOR_BGR2RGB).astype(np.float32)
    return cv2.dnn.blobFromImage((colour / 255 - 0.5) / 0.5)


def _aligned(face: Face) -> Image:
    """(112, 112, 3) BGR. The similarity has the least squared error in the picture, and is black beyond it."""
    if face.detection is None:
        return resize_face(face.picture, InputSpec(ZOO_SIDE))
    # A similarity of the plane is picture = scale * crop + shift in complex numbers.
    picture, crop = (points @ (1, 1j) for points in (landmarks_of(face.detection), ZOO_LANDMARKS))
    (scale, shift), *_ = np.linalg.lstsq(np.column_stack([crop, np.ones(5)]), picture, rcond=None)
    picture_from_crop = np.array([[scale.real, -scale.imag, shift.real], [scale.imag, scale.real, shift.imag]])
    return cv2.warpAffine(
        face.picture, picture_from_crop, (ZOO_SIDE, ZOO_SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
