"""The crop of frame.cu in numpy and float64: its plain twin, with which the tests compare it.

The twin of `rows_of_faces` is `rows_of` in runtime/faces/yunet_rows.py, which the camera loop uses.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OVERSAMPLING = 4
Floats = NDArray[np.float64]


def crop_face(
    frame: NDArray[np.uint8], landmarks: Floats, mean_face: Floats, size: int, margin: float
) -> NDArray[np.uint8]:
    """(H, W, 3) frame and (5, 2) landmarks in its pixels -> (size, size, 3): the face that they show, upright.

    `mean_face` is (5, 2), the landmarks of an upright face of side 1 about the origin. The square of the crop has
    `margin` times the side of the face.
    """
    u, v = (mean_face - mean_face.mean(axis=0)).T
    x, y = (landmarks - landmarks.mean(axis=0)).T
    turned = np.array([u @ x + v @ y, u @ y - v @ x]) / (u @ u + v @ v)
    face = float(np.hypot(*turned))
    rotation = np.array([[turned[0], -turned[1]], [turned[1], turned[0]]])
    centre = landmarks.mean(axis=0) - rotation @ mean_face.mean(axis=0)
    side = margin * max(face, 1.0)
    samples = int(np.clip(round(side), 2, OVERSAMPLING * size))
    along = ((np.arange(samples) + 0.5) / samples - 0.5) * side
    upright = rotation / face if face else np.eye(2)
    points = np.stack(np.meshgrid(along, along), axis=-1) @ upright.T + centre - 0.5  # pixel 0 covers 0 to 1
    weights = _area_weights(samples, size) if samples >= size else _cubic_weights(samples, size)
    crop = np.einsum("iy,jx,yxc->ijc", weights, weights, _between_pixels(frame, points), optimize=True)
    return np.rint(crop).clip(0, 255).astype(np.uint8)


def _between_pixels(frame: NDArray[np.uint8], points: Floats) -> Floats:
    """(H, W, 3) frame and (..., 2) points -> (..., 3) colours. Beyond the frame its border pixels are repeated."""
    most = np.array(frame.shape[1::-1]) - 1
    points = points.clip(0, most)
    first = points.astype(int)
    last = np.minimum(first + 1, most)
    u, v = np.moveaxis(points - first, -1, 0)[..., None]
    upper = (1 - u) * frame[first[..., 1], first[..., 0]] + u * frame[first[..., 1], last[..., 0]]
    lower = (1 - u) * frame[last[..., 1], first[..., 0]] + u * frame[last[..., 1], last[..., 0]]
    return np.asarray((1 - v) * upper + v * lower)


def _area_weights(before: int, after: int) -> Floats:
    """(after, before): the share of each sample in the area of each pixel."""
    edges = np.linspace(0, before, after + 1)
    samples = np.arange(before)
    shared = np.minimum(edges[1:, None], samples + 1) - np.maximum(edges[:-1, None], samples)
    return np.asarray(shared.clip(0) * after / before)


def _cubic_weights(before: int, after: int) -> Floats:
    """(after, before): Keys' cubic with -0.75, as in OpenCV. At the border the last sample is repeated."""
    weights, a = np.zeros((after, before)), -0.75
    for pixel in range(after):
        place = (pixel + 0.5) * before / after - 0.5
        for sample in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            d = abs(place - sample)
            inner, outer = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
            weights[pixel, min(max(sample, 0), before - 1)] += inner if d <= 1 else outer
    return weights
