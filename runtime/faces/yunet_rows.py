"""From YuNet's outputs to its faces: decoding, and one box for each face. Equal to OpenCV's `FaceDetectorYN`.

At each stride of 8, 16 and 32 pixels the picture has a grid of cells, row by row, and each cell may see one face.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STRIDES = (8, 16, 32)
"""Pixels from one cell to the next. The sides of a picture are multiples of the last."""

Rows = NDArray[np.float32]
"""(F, 15): x, y, width and height of the box, x and y of the five landmarks, and the score, in pixels."""


def rows_of(outputs: Sequence[NDArray[np.float32]], width: int, score: float, overlap: float) -> list[Rows]:
    """Outputs of N pictures of `width` pixels -> (F, 15) rows for each picture, by falling score.

    `outputs` are the classes, the objectness, the boxes and the landmarks, each at every stride: (N, cells, values).
    `score` is the lowest score. Of two boxes whose IoU is above `overlap`, the one with the lower score is dropped.
    """
    decoded = []
    for index, stride in enumerate(STRIDES):
        classes, objectness, boxes, landmarks = outputs[index :: len(STRIDES)]
        decoded.append(_decoded(classes, objectness, boxes, landmarks, stride, width, score))
    pictures, rows = (np.concatenate(parts) for parts in zip(*decoded, strict=True))
    return [_best(rows[pictures == picture], overlap) for picture in range(len(outputs[0]))]


def _decoded(
    classes: NDArray[np.float32],
    objectness: NDArray[np.float32],
    boxes: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    stride: int,
    width: int,
    score: float,
) -> tuple[NDArray[np.intp], Rows]:
    """Outputs at one stride -> (F,) index of the picture, and (F, 15) row, of each cell that sees a face."""
    scores = np.sqrt(classes[..., 0].clip(0, 1) * objectness[..., 0].clip(0, 1))
    pictures, cells = np.nonzero(scores >= score)
    corners = np.stack([cells % (width // stride), cells // (width // stride)], axis=1).astype(np.float32)
    boxes, points = boxes[pictures, cells], landmarks[pictures, cells].reshape(-1, 5, 2)
    sizes = np.exp(boxes[:, 2:])
    rows = np.empty((len(cells), 15), np.float32)
    rows[:, :2] = stride * (corners + boxes[:, :2] - sizes / 2)
    rows[:, 2:4] = stride * sizes
    rows[:, 4:14] = stride * (points + corners[:, None]).reshape(-1, 10)
    rows[:, 14] = scores[pictures, cells]
    return pictures, rows


def _best(rows: Rows, overlap: float) -> Rows:
    """Sort by falling score, and drop each row whose box overlaps a better one (non-maximum suppression)."""
    rows = rows[np.argsort(-rows[:, 14], kind="stable")]
    boxes = np.trunc(rows[:, :4])  # OpenCV compares boxes of whole pixels
    left = np.arange(len(rows))
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[_iou(boxes[best], boxes[left]) <= overlap]
    return rows[kept]


def _iou(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """(4,) box and (F, 4) boxes, as x, y, width, height -> (F,) area of both over area of either."""
    sides = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(0, None).prod(axis=1)
    return shared / np.maximum(box[2:].prod() + others[:, 2:].prod(axis=1) - shared, 1)
