"""What a detector of faces has to be: a function from a picture to its faces. `FaceDetector` is ours.

The library and the loop call a detector through the functions here. They give it a BGR picture, sort its faces, and
refuse anything that is no face. Two more ways to search are optional. Without them, the detector gets whole frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from iern.runtime.errors import ArgumentError
from iern.runtime.faces.windows import Window
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import Image, as_bgr


class Detector(Protocol):
    """`detector(image)` -> its faces. A function with this signature is a detector, too.

    It is called in the thread that calls the recognizer or the pipeline. If several threads share it, it must allow
    that.
    """

    def __call__(self, image: Image, /) -> Sequence[Detection]:
        """(H, W, 3) uint8 BGR image -> its faces in pixels of the image, in any order; empty if there is none."""


@runtime_checkable
class PhotographDetector(Detector, Protocol):
    """A detector that takes more time for a picture by itself than for one of many frames. Optional."""

    def in_photograph(self, image: Image, /) -> Sequence[Detection]:
        """(H, W, 3) uint8 BGR image -> its faces, also small ones."""


@runtime_checkable
class WindowDetector(Detector, Protocol):
    """A detector for the tracked search, which looks only around the known faces in most frames. Optional."""

    def in_windows(self, frame: Image, windows: Sequence[Window], /) -> list[list[Detection]]:
        """(H, W, 3) uint8 BGR frame -> the faces in each window, by falling score, in pixels of the frame."""

    def searched_pixels(self, frame: Image, /) -> int:
        """The pixels that a search of the whole frame costs, to be compared with those of the windows."""


def faces_in_frame(detector: Detector, frame: np.ndarray) -> list[Detection]:
    """(H, W, 3) frame -> its faces by falling score.

    Raises ImageError if the array is not an image, and ArgumentError if the detector returns anything but faces.
    """
    return _checked(detector, detector(as_bgr(frame)))


def faces_in_photograph(detector: Detector, image: np.ndarray) -> list[Detection]:
    """As `faces_in_frame`, for a picture by itself: by `in_photograph` if the detector has it."""
    if isinstance(detector, PhotographDetector):
        return _checked(detector, detector.in_photograph(as_bgr(image)))
    return faces_in_frame(detector, image)


def _checked(detector: Detector, found: object) -> list[Detection]:
    name = getattr(detector, "__qualname__", type(detector).__qualname__)
    if not isinstance(found, Sequence) or not all(isinstance(face, Detection) for face in found):
        raise ArgumentError(
            f"the detector {name} returned {_content(found)}; expected a list of "
            "iern.Detection(x, y, width, height, landmarks, score) in pixels of the image, empty if there is no face"
        )
    for face in found:
        _check(face, name)
    return sorted(found, key=lambda face: face.score, reverse=True)


def _check(face: Detection, name: str) -> None:
    numbers = (face.x, face.y, face.width, face.height, face.score)
    points = face.landmarks
    if not _finite(numbers) or face.width <= 0 or face.height <= 0:
        raise ArgumentError(
            f"the detector {name} returned a face with x, y, width, height and score {numbers}; expected finite "
            "numbers, and a width and height above 0"
        )
    if points is not None and (not isinstance(points, np.ndarray) or points.shape != (5, 2) or not _finite(points)):
        raise ArgumentError(
            f"the detector {name} returned the landmarks {points}; expected None, or an array (5, 2) of finite "
            "numbers: the eye on the image's left, the one on its right, nose tip, left and right mouth corner"
        )


def _finite(numbers: ArrayLike) -> bool:
    try:
        return bool(np.isfinite(numbers).all())
    except TypeError:  # not numbers at all
        return False


def _content(found: object) -> str:
    """What the detector returned, in a few words."""
    if isinstance(found, Sequence) and not isinstance(found, str):
        return f"a {type(found).__name__} with {next(type(x).__name__ for x in found if not isinstance(x, Detection))}"
    return type(found).__name__
