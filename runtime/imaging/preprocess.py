"""Face in a frame -> network input: the one implementation, used by training, evaluation and the runtime.

Arithmetic on pixel values (channel order, scale, mean) is inside the exported graph; this module has the geometry.
A cropped face (an image of a data set) and a face found in a frame both go through `resize_face`, so both are
resampled in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.imaging.detection import MEAN_FACE, Detection, landmarks_of
from iern.runtime.imaging.images import Image, as_bgr, read_image

OVERSAMPLING = 4
"""A large face is first sampled at no more than this many times the input size, then averaged to the input size."""

Alignment = Literal["landmarks", "eyes", "none"]


@dataclass(frozen=True)
class InputSpec:
    """The format of a face for the network. It is stored in the checkpoint and in the artifact."""

    size: int
    """Side of the square input, in pixels."""
    margin: float = 1.1
    """Side of the square crop, as a multiple of the longer side of the detector's box."""
    alignment: Alignment = "eyes"
    """`eyes`: the crop is turned about the centre of the box until the line between the eyes is level. `landmarks`: its
    place, side and turn follow from all five landmarks, and the box has no say."""
    colour: Literal["bgr"] = "bgr"
    resize: Literal["area-cubic"] = "area-cubic"
    """Pixel-area averaging to shrink, bicubic to enlarge."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one input."""
        return self.size, self.size, 3


def read_faces(paths: Iterable[Path], spec: InputSpec) -> NDArray[np.uint8]:
    """Image files of cropped faces -> (n, S, S, 3) uint8 BGR. Raises ImageError if one cannot be read."""
    return np.stack([resize_face(read_image(path), spec) for path in paths])


def resize_face(image: Image, spec: InputSpec) -> Image:
    """(h, w, 3) face crop -> (size, size, 3) uint8. The aspect ratio is not kept, as in the paper."""
    shrinking = image.shape[0] >= spec.size and image.shape[1] >= spec.size
    interpolation = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    return cv2.resize(as_bgr(image), (spec.size, spec.size), interpolation=interpolation)


@dataclass(frozen=True)
class Square:
    """The part of a frame that becomes the input, in pixels of the frame."""

    x: float
    """Centre; a frame of width w reaches from 0 to w."""
    y: float
    side: float
    turn: float = 0.0
    """Radians, clockwise as the picture is seen."""


def crop_face(frame: Image, face: Detection, spec: InputSpec) -> Image:
    """(H, W, 3) frame and a detection in its pixels -> (size, size, 3) uint8, upright as `spec.alignment` says.

    If the square reaches beyond the frame, the frame's border pixels are repeated.
    """
    return cut(frame, face_square(face, spec), spec)


def crop_faces(frame: Image, faces: list[Detection], spec: InputSpec) -> NDArray[np.uint8]:
    """(H, W, 3) frame -> (len(faces), size, size, 3) uint8, a batch for one call of the session."""
    batch = np.empty((len(faces), *spec.shape), np.uint8)
    for row, face in zip(batch, faces, strict=True):
        row[:] = crop_face(frame, face, spec)
    return batch


def face_square(face: Detection, spec: InputSpec) -> Square:
    """The square of a face: the detector's box, or what the landmarks say of it, enlarged by the margin.

    Without landmarks it is the upright square around the box.
    """
    if spec.alignment == "landmarks":
        return _square_of_landmarks(landmarks_of(face), spec.margin)
    turn = 0.0
    if spec.alignment == "eyes":
        # The first two landmarks are the eye on the image's left and the one on its right.
        (left_x, left_y), (right_x, right_y) = landmarks_of(face)[:2]
        turn = float(np.arctan2(right_y - left_y, right_x - left_x))
    side = spec.margin * max(face.width, face.height)
    return Square(face.x + face.width / 2, face.y + face.height / 2, side, turn)


def cut(frame: Image, square: Square, spec: InputSpec) -> Image:
    """(H, W, 3) frame -> (size, size, 3) uint8: the square of it. Beyond the frame its border pixels are repeated."""
    sampled = int(np.clip(round(square.side), 2, OVERSAMPLING * spec.size))
    crop = cv2.warpAffine(
        as_bgr(frame),
        _frame_from_crop(square, sampled),
        (sampled, sampled),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return resize_face(crop, spec)


def _square_of_landmarks(landmarks: NDArray[np.float64], margin: float) -> Square:
    """(5, 2) landmarks -> the square of the similarity that maps MEAN_FACE onto them with the least squared error.

    With points as complex numbers a similarity is z -> a z + b, and a is a ratio of sums (Umeyama 1991, in the plane).
    """
    mean_face, found = (points[:, 0] + 1j * points[:, 1] for points in (MEAN_FACE, landmarks))
    spread = mean_face - mean_face.mean()
    a = np.vdot(spread, found - found.mean()) / np.vdot(spread, spread).real
    centre = found.mean() - a * mean_face.mean()
    # Five landmarks on one point have no size: one pixel then, as little as a box can have.
    return Square(float(centre.real), float(centre.imag), margin * max(float(abs(a)), 1.0), float(np.angle(a)))


def _frame_from_crop(square: Square, size: int) -> NDArray[np.float64]:
    """(2, 3) map from the pixels of a crop of `size` to those of the frame."""
    scale = square.side / size
    cos, sin = scale * np.cos(square.turn), scale * np.sin(square.turn)
    # Pixel centres are at integers, and a box from 0 to w covers the pixels 0 to w - 1: hence the halves.
    half = (size - 1) / 2
    return np.array(
        [
            [cos, -sin, square.x - 0.5 - half * cos + half * sin],
            [sin, cos, square.y - 0.5 - half * sin - half * cos],
        ]
    )
