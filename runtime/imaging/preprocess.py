"""Face in a frame -> network input: the one implementation, used by training, evaluation and the runtime.

Arithmetic on pixel values (channel order, scale, mean) is inside the exported graph; this module has the geometry.
A cropped face (an image of a data set) and a face found in a frame both go through `resize_face`, so both are
resampled in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.imaging.images import Image, as_bgr, read_image

if TYPE_CHECKING:
    from iern.runtime.imaging.detection import Detection

OVERSAMPLING = 4
"""A large face is first sampled at no more than this many times the input size, then averaged to the input size."""


@dataclass(frozen=True)
class InputSpec:
    """The format of a face for the network. It is stored in the checkpoint and in the artifact."""

    size: int
    """Side of the square input, in pixels."""
    margin: float = 1.1
    """Side of the square crop, as a multiple of the longer side of the detector's box."""
    alignment: Literal["eyes", "none"] = "eyes"
    """`eyes`: the crop is turned about the box centre until the line between the eyes is level."""
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


def crop_face(frame: Image, face: Detection, spec: InputSpec) -> Image:
    """(H, W, 3) frame and a detection in its pixels -> (size, size, 3) uint8, upright by the eyes.

    If the square reaches beyond the frame, the frame's border pixels are repeated.
    """
    side = spec.margin * max(face.width, face.height)
    sampled = int(np.clip(round(side), 2, OVERSAMPLING * spec.size))
    frame_from_crop = _similarity(face, side / sampled, sampled, spec.alignment)
    crop = cv2.warpAffine(
        as_bgr(frame),
        frame_from_crop,
        (sampled, sampled),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return resize_face(crop, spec)


def crop_faces(frame: Image, faces: list[Detection], spec: InputSpec) -> NDArray[np.uint8]:
    """(H, W, 3) frame -> (len(faces), size, size, 3) uint8, a batch for one call of the session."""
    batch = np.empty((len(faces), *spec.shape), np.uint8)
    for row, face in zip(batch, faces, strict=True):
        row[:] = crop_face(frame, face, spec)
    return batch


def _similarity(face: Detection, scale: float, side: int, alignment: str) -> NDArray[np.float64]:
    """(2, 3) map from crop pixels to frame pixels: turn by the eyes' roll and scale about the box centre."""
    angle = 0.0
    if alignment == "eyes":
        # YuNet's first two landmarks are the eye on the image's left and the one on its right.
        (left_x, left_y), (right_x, right_y) = face.landmarks[0], face.landmarks[1]
        angle = float(np.arctan2(right_y - left_y, right_x - left_x))
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    centre_x, centre_y = face.x + face.width / 2, face.y + face.height / 2
    # Pixel centres are at integers, and a box from 0 to w covers the pixels 0 to w - 1: hence the halves.
    half = (side - 1) / 2
    return np.array(
        [
            [cos, -sin, centre_x - 0.5 - half * cos + half * sin],
            [sin, cos, centre_y - 0.5 - half * sin - half * cos],
        ]
    )
