"""What the comparison asks of every model, ours and the peers'."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.errors import IernError
from iern.runtime.imaging.images import Image
from iern.train.network.config import SEVEN_EXPRESSIONS

if TYPE_CHECKING:
    from iern.runtime.imaging.detection import Detection

OUR_NAMES = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
}
"""The peers' names of expressions -> ours."""


TIGHT = 0.87
"""Side of the tight crop, as a multiple of the longer side of the detector's box.

Peers crop by the boxes of their own detectors, which are drawn otherwise than ours. The side of a box of OpenCV's Haar
cascade is 0.87 of the longer side of ours: the median over 146 portraits of CK+.
"""


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a data set."""

    picture: Image
    """(H, W, 3) BGR."""
    detection: Detection | None
    """Where the face is in the picture. None: the picture is a face that the data set has cropped."""


class Peer(abc.ABC):
    """A model with its own preprocessing: `available()`, then `predict(faces)` and `milliseconds(face)`."""

    name: str
    install: str
    """What makes it available: a shell command, or an option of this command."""
    crop: str
    """The part of a whole picture that it gets."""
    preprocessing: str
    """What becomes of that part, up to the network's input."""
    source: str
    """Where crop and preprocessing come from."""
    also_tight = True
    """Whether it gets whole pictures also as tight crops. The better crop is reported."""

    @property
    @abc.abstractmethod
    def version(self) -> str:
        """The version of the package, or the start of the file's SHA-256."""

    @property
    @abc.abstractmethod
    def weights(self) -> int:
        """Bytes of the files with the weights."""

    @abc.abstractmethod
    def available(self) -> str | None:
        """Open the model. Returns why it cannot be opened here, or None."""

    @abc.abstractmethod
    def predict(self, faces: Sequence[Face]) -> NDArray[np.float32]:
        """n faces -> (n, 7) probabilities of SEVEN_EXPRESSIONS."""

    @abc.abstractmethod
    def milliseconds(self, face: Face) -> float:
        """Preprocess the face, and return the time of the model's call alone, on one thread."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Free what the model holds."""

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def in_seven(probabilities: NDArray, classes: Sequence[str]) -> NDArray[np.float32]:
    """(n, K) probabilities of a peer's own classes -> (n, 7) of SEVEN_EXPRESSIONS.

    Other classes, such as contempt, are dropped, and the rest is divided by its sum. Raises IernError if one of the
    seven is not among the classes.
    """
    names = [OUR_NAMES.get(name, name) for name in classes]
    absent = [name for name in SEVEN_EXPRESSIONS if name not in names]
    if absent:
        raise IernError(f"found the classes {', '.join(classes)}, expected also {', '.join(absent)}; compare others")
    kept = np.asarray(probabilities, np.float64)[:, [names.index(name) for name in SEVEN_EXPRESSIONS]]
    kept = np.maximum(kept, np.finfo(np.float32).tiny)  # a row with nothing but other classes becomes uniform
    return (kept / kept.sum(axis=1, keepdims=True)).astype(np.float32)


def square_around(face: Face, margin: float = 1.0, border: int = 0, black_beyond: bool = False) -> Image:
    """The square around the box's centre, of `margin` times its longer side, with `border` pixels more on each side.

    It ends where the picture ends, unless what is beyond is black. Without a detection: the whole picture.
    """
    box = face.detection
    if box is None:
        return face.picture
    side = max(1, round(margin * max(box.width, box.height)) + 2 * border)
    left, top = (round(start - side / 2) for start in (box.x + box.width / 2, box.y + box.height / 2))
    within = _within(face.picture, left, top, left + side, top + side)
    if not black_beyond:
        return within
    square = np.zeros((side, side, *face.picture.shape[2:]), np.uint8)
    above, before = max(0, -top), max(0, -left)
    square[above : above + within.shape[0], before : before + within.shape[1]] = within
    return square


def tight(face: Face) -> Face:
    """The face as if its data set had cropped it: the square of TIGHT times the box's longer side."""
    return Face(square_around(face, TIGHT), None)


def box_of(face: Face) -> Image:
    """The box as the detector found it, as far as it is in the picture. Without a detection: the whole picture."""
    box = face.detection
    if box is None:
        return face.picture
    return _within(face.picture, round(box.x), round(box.y), round(box.x + box.width), round(box.y + box.height))


def grey(image: Image) -> NDArray[np.uint8]:
    """(H, W, 3) BGR -> (H, W)."""
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)


def _within(picture: Image, left: int, top: int, right: int, bottom: int) -> Image:
    """The part of the picture in the rectangle. The centre of a detection is in the picture, so it is not empty."""
    return picture[max(0, top) : bottom, max(0, left) : right]
