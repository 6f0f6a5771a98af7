"""Faces in a frame: YuNet through OpenCV, on a copy of bounded size.

YuNet finds faces of about 10 to 450 pixels. On a photograph at full size it misses larger ones and answers with
wrong boxes, so it looks at a copy of at most `longest_side` pixels. A face that fills such a copy is still too large;
where the first look finds none, or one near the limit, a second look at a much smaller copy settles it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.bundled import YUNET
from iern.runtime.errors import ArtifactError
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import Image, as_bgr

COARSE = 224
"""Longest side, in pixels, of the second look, and of frames smaller than it in the first look.

Of face crops that fill the frame, 99.5 % and more are found at this size, but 44 to 72 % at 640 and 77 to 98 % at 48.
."""

LARGE = 450
"""Faces longer than this, in pixels of the copy, are measured 10 to 20 % too small: the second look corrects them."""

NARROW = 64
"""Shortest side, in pixels, that YuNet is given: of images up to 32, OpenCV 4.13 reads memory that nobody wrote."""


class FaceDetector:
    """`detector(frame)` -> its faces, best first. Keeps buffers, so one detector belongs to one thread."""

    def __init__(
        self, model: Path | str = YUNET, score: float = 0.7, overlap: float = 0.3, longest_side: int = 640
    ) -> None:
        """`overlap` is the intersection over union above which the weaker of two boxes is dropped.

        Raises ArtifactError where the model is missing, damaged, or no YuNet.
        """
        self.longest_side = longest_side
        self._yunet = _load(Path(model), score, overlap)
        self._size = (0, 0)

    def __call__(self, frame: np.ndarray) -> list[Detection]:
        """(H, W, 3) uint8 BGR frame, or grey, BGRA or 16 bits -> faces by falling score, none where there is none.

        Frames may differ in size from call to call. Raises ImageError for an array that is no frame.
        """
        image = as_bgr(frame)
        longest = max(image.shape[:2])
        fine = min(max(longest, COARSE), self.longest_side)
        faces = self._look(image, fine)
        largest = max((max(face.width, face.height) for face in faces), default=None)
        if fine > COARSE and (largest is None or largest * fine / longest > LARGE):
            faces = _without_doubles(faces + self._look(image, COARSE))
        return faces

    def _look(self, image: Image, longest: int) -> list[Detection]:
        """Faces found on a copy whose longer side has `longest` pixels, in pixels of `image`."""
        copy = _resized(image, longest)
        scale = np.array([image.shape[1] / copy.shape[1], image.shape[0] / copy.shape[0]])
        copy = _padded(copy)
        if copy.shape[1::-1] != self._size:
            self._size = copy.shape[1::-1]
            self._yunet.setInputSize(self._size)
        _, rows = self._yunet.detect(copy)
        if rows is None:
            return []
        return [_detection(row, scale) for row in rows.astype(np.float64)]


def _load(model: Path, score: float, overlap: float) -> cv2.FaceDetectorYN:
    remedy = "reinstall iern, or give a YuNet model of OpenCV's model zoo"
    try:
        data = np.frombuffer(model.read_bytes(), np.uint8)
    except OSError as error:
        raise ArtifactError(f"{model}: no face detector there ({error.strerror or error}); {remedy}") from error
    try:
        with _silent_opencv():  # 5.0 warns about targets at each load, and a damaged file is reported below
            yunet = cv2.FaceDetectorYN.create("onnx", data, np.empty(0, np.uint8), (64, 64), score, overlap)
            yunet.detect(np.zeros((64, 64, 3), np.uint8))  # another network loads well and fails here
    except cv2.error as error:
        found = " ".join(error.err.split())
        raise ArtifactError(f"{model}: cannot be loaded as a face detector ({found}); {remedy}") from error
    return yunet


@contextlib.contextmanager
def _silent_opencv() -> Iterator[None]:
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def _resized(image: Image, longest: int) -> Image:
    """The image with its longer side at `longest` pixels, its aspect kept."""
    scale = longest / max(image.shape[:2])
    if scale == 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _padded(image: Image) -> Image:
    """The image with black below and to the right, where a side is shorter than NARROW."""
    below, right = (max(0, NARROW - side) for side in image.shape[:2])
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT) if below or right else image


def _detection(row: NDArray[np.float64], scale: NDArray[np.float64]) -> Detection:
    """YuNet's (15,) row: box, five landmarks, score -> pixels of the frame; `scale` is (2,), x then y."""
    x, y = row[:2] * scale
    width, height = row[2:4] * scale
    return Detection(float(x), float(y), float(width), float(height), row[4:14].reshape(5, 2) * scale, float(row[14]))


def _without_doubles(faces: list[Detection]) -> list[Detection]:
    """By falling score, without faces of which half lies in a better one, or which hold half of a better one."""
    kept: list[Detection] = []
    for face in sorted(faces, key=lambda face: face.score, reverse=True):
        if all(_shared(face, better) < 0.5 for better in kept):
            kept.append(face)
    return kept


def _shared(a: Detection, b: Detection) -> float:
    """Area in both boxes over the area of the smaller."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(width, 0.0) * max(height, 0.0) / min(a.width * a.height, b.width * b.height)
