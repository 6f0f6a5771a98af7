"""Boxes of the caller, from any detector or by hand -> detections in one picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iern.runtime.errors import ArgumentError
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import Image

BOXES = "expected (number of faces, 4): x, y, width and height of each face, in pixels of the image"
LANDMARKS = (
    "expected (number of faces, 5, 2): x and y, in pixels of the image, of the eye on the image's left, the eye on its "
    "right, the nose tip, the left and the right corner of the mouth; None if you have none"
)
SMALLEST = 1.0
"""Pixels: the least width and height of a box."""


def detections_of(boxes: ArrayLike, landmarks: ArrayLike | None, image: Image) -> list[Detection]:
    """(F, 4) boxes and (F, 5, 2) landmarks or None, in pixels of the (H, W, 3) image -> F detections of score 1.

    A box may reach beyond the image. Raises ArgumentError if the arrays have other shapes or hold values that are not
    finite, a box is smaller than a pixel or outside the image, or landmarks are not in their box.
    """
    numbers = _numbers(boxes, "boxes", (4,), BOXES)
    for index, box in enumerate(numbers):
        _check_box(f"boxes[{index}]", box, image)
    if landmarks is None:
        return [_detection(box, None) for box in numbers]
    points = _numbers(landmarks, "landmarks", (5, 2), LANDMARKS)
    if len(points) != len(numbers):
        raise ArgumentError(f"found {len(numbers)} boxes and the landmarks of {len(points)} faces; {LANDMARKS}")
    for index, (box, each) in enumerate(zip(numbers, points, strict=True)):
        _check_landmarks(f"landmarks[{index}]", each, box)
    return [_detection(box, each) for box, each in zip(numbers, points, strict=True)]


def _detection(box: NDArray[np.float64], landmarks: NDArray[np.float64] | None) -> Detection:
    x, y, width, height = box.tolist()
    return Detection(x, y, width, height, landmarks)


def _numbers(values: ArrayLike, name: str, row: tuple[int, ...], expected: str) -> NDArray[np.float64]:
    """Values -> (F, *row) finite float64. No values are (0, *row)."""
    try:
        numbers = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name}: found {type(values).__name__} that is no array of numbers; {expected}") from error
    if numbers.shape == row:
        raise ArgumentError(f"{name}: found those of one face, shape {row}; pass them in a list, [{name}]")
    if numbers.size == 0 and numbers.ndim <= len(row) + 1:
        return np.empty((0, *row))
    if numbers.ndim != len(row) + 1 or numbers.shape[1:] != row:
        raise ArgumentError(f"{name}: found shape {numbers.shape}; {expected}")
    for index, each in enumerate(numbers):
        if not np.isfinite(each).all():
            raise ArgumentError(
                f"{name}[{index}]: found {each.tolist()}; expected finite numbers. Leave out faces without"
            )
    return numbers


def _check_box(name: str, box: NDArray[np.float64], image: Image) -> None:
    x, y, width, height = box.tolist()
    (image_height, image_width), found = image.shape[:2], f"{name}: found {_text(box)}"
    if min(width, height) < 0:
        raise ArgumentError(f"{found} with a negative width or height; {BOXES}. The width of corners is right - left")
    if min(width, height) < SMALLEST:
        raise ArgumentError(
            f"{found}, which is smaller than a pixel; {BOXES}. Multiply shares of the image by its width and height"
        )
    if x >= image_width or y >= image_height or x + width <= 0 or y + height <= 0:
        raise ArgumentError(
            f"{found}, which is outside the image of {image_width}x{image_height}; {BOXES}. A photograph is turned "
            "upright as its EXIF data say before the boxes count"
        )


def _check_landmarks(name: str, points: NDArray[np.float64], box: NDArray[np.float64]) -> None:
    """Whether the middle of the landmarks is in their box. Those of another face or in other units are not."""
    middle = points.mean(axis=0)
    if not np.all((box[:2] <= middle) & (middle <= box[:2] + box[2:])):
        raise ArgumentError(
            f"{name}: found the middle of the landmarks at {_text(middle)}, outside their box {_text(box)}; expected "
            "pixels of the image, not of the box, and the order of the boxes"
        )


def _text(numbers: NDArray[np.float64]) -> str:
    return f"({', '.join(f'{value:g}' for value in numbers)})"
