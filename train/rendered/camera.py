"""The camera: the pose of the head before it, the projection, and what lens and sensor do to the picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from iern.runtime.imaging.images import Image
from iern.train.rendered.kit import Floats

SUPERSAMPLING = 2
"""Pixels of the rendered picture for one of the result, along each axis."""
PIVOT = np.array([0, 1, 2], np.float32)
"""The point of the head that it turns around and that the camera looks at."""
AIM = 0.3
"""Height of the picture's middle above the pivot."""
POSE_DEVIATION = (10, 6, 5)
POSE_LIMITS = (28, 16, 16)
"""Yaw, pitch and roll: degrees."""
LUMINANCE = np.array([0.3, 0.59, 0.11], np.float32)
"""Of red, green and blue."""


@dataclass(frozen=True)
class Camera:
    """Projects points of the head to a picture."""

    yaw: float
    """How far the head is turned to its left, radians."""
    rotation: Floats
    """(3, 3) from the head to the camera."""
    distance: float
    """From the pivot, in the kit's units."""
    pixels_per_unit: float
    """At the tip of the nose."""
    offset: tuple[float, float]
    """Of the head from the picture's middle, right and down, pixels."""
    side: int
    """Of the picture, pixels."""

    def turn(self, points: Floats) -> Floats:
        """(N, 3) points of the head -> (N, 3) in the camera's axes, from the pivot."""
        return (points - PIVOT).astype(np.float32) @ self.rotation.T

    def turn_back(self, points: Floats) -> Floats:
        """The inverse of `turn`."""
        return points @ self.rotation + PIVOT

    def project(self, turned: Floats) -> Floats:
        """(N, 3) turned points -> (N, 3) column, row and 1/depth."""
        near = 1 / (self.distance - turned[:, 2])
        scale = self.pixels_per_unit * (self.distance - 6) * near
        column = self.side / 2 + self.offset[0] + scale * turned[:, 0]
        row = self.side / 2 + self.offset[1] - scale * (turned[:, 1] - AIM)
        return np.stack([column, row, near], 1).astype(np.float32)

    def to_picture(self, points: Floats) -> Floats:
        """(N, 3) points of the head -> (N, 2) column and row."""
        return self.project(self.turn(points))[:, :2]

    def directions_from(self, turned: Floats) -> Floats:
        """(N, 3) turned points -> (N, 3) unit vectors towards the camera."""
        towards = np.array([0, 0, self.distance], np.float32) - turned
        return towards / np.linalg.norm(towards, axis=1, keepdims=True)


def place_camera(size: int, rng: np.random.Generator) -> Camera:
    """-> a camera before a head that is turned a little, for a picture of `size` pixels."""
    drawn = np.array([rng.normal(0, deviation) for deviation in POSE_DEVIATION])
    yaw, pitch, roll = np.radians(np.clip(drawn, -np.array(POSE_LIMITS), POSE_LIMITS)).tolist()
    distance, scale = rng.uniform(45, 140), size * rng.uniform(0.0310, 0.0385)
    offset = (rng.normal(0, 3) * SUPERSAMPLING, rng.normal(2, 3) * SUPERSAMPLING)
    return Camera(yaw, rotation(yaw, -pitch, roll), distance, scale * SUPERSAMPLING, offset, size * SUPERSAMPLING)


def rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """-> (3, 3) rotation about y (to the subject's left), then x (down), then z; radians."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_z @ about_x @ about_y).astype(np.float32)


def develop(light: Floats, size: int, rng: np.random.Generator) -> Image:
    """(H, W, 3) exposed light, linear red, green, blue -> (size, size, 3) uint8 BGR of a random camera."""
    if rng.random() < 0.5:
        light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.4, 1.6))
    light = cv2.resize(light, (size, size), interpolation=cv2.INTER_AREA)
    light = np.maximum(light * np.exp(rng.normal(0, 0.04, 3)).astype(np.float32), 0)
    light *= (1 + light / 4) / (1 + light)  # highlights roll off (Reinhard)
    picture = np.clip(light * 1.15, 0, 1) ** np.float32(1 / 2.2)
    return _process(picture, rng)


def _process(picture: Floats, rng: np.random.Generator) -> Image:
    """Gamma, contrast, saturation or grey, and noise, each at random."""
    if rng.random() < 0.5:
        picture = picture ** np.float32(rng.uniform(0.8, 1.3))
    if rng.random() < 0.3:
        picture = np.clip((picture - 0.5) * rng.uniform(0.8, 1.3) + 0.5, 0, 1)
    saturation = 0 if rng.random() < 0.15 else rng.uniform(0.6, 1.15)
    picture = (picture @ LUMINANCE)[..., None] * (1 - saturation) + picture * saturation
    if rng.random() < 0.7:
        noise = rng.standard_normal(picture.shape).astype(np.float32)
        picture = picture + noise * np.float32(rng.uniform(0.002, 0.018))
    return np.ascontiguousarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)[..., ::-1])
