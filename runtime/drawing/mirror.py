"""A frame and its faces as a mirror shows them. What is drawn on them afterwards stays readable."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from iern.runtime.faces.face import Face
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import Image

SWAPPED_LANDMARKS = (1, 0, 2, 4, 3)
"""In a mirror the eye on the image's left is the one that was on its right. So are the corners of the mouth."""


def mirrored(frame: Image, faces: Sequence[Face]) -> tuple[Image, list[Face]]:
    """(H, W, 3) frame and its faces -> copies with left and right exchanged. The originals are not changed."""
    width = frame.shape[1]
    return cv2.flip(frame, 1), [
        dataclasses.replace(face, detection=_mirrored_detection(face.detection, width)) for face in faces
    ]


def _mirrored_detection(found: Detection, width: int) -> Detection:
    landmarks = found.landmarks
    if landmarks is not None:
        landmarks = landmarks[list(SWAPPED_LANDMARKS)] * np.array((-1.0, 1.0)) + np.array((float(width), 0.0))
    return dataclasses.replace(found, x=width - found.x - found.width, landmarks=landmarks)
