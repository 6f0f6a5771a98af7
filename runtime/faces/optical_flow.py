"""Faces carried from one frame to the next by optical flow at their landmarks, cheaper than looking for them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.tracker import PATIENCE
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import Image, as_bgr

LONGEST = 640
"""Longer side, in pixels, of the grey copy in which faces are followed, as in the detector."""

WINDOW = 21
"""Side, in pixels of the copy, of what is compared around a landmark, at each of the pyramid's levels."""
LEVELS = 3

THERE_AND_BACK = 0.04
"""Face sizes that a landmark may be off when it has been followed forth and back, and ..."""
BENT = 0.08
"""... RMS distance, in face sizes, of the landmarks from a mere shift, turn and scaling of themselves."""
GROWTH = 1.25
"""A face that grew or shrank by more from one frame to the next was mistaken."""

Points = NDArray[np.float64]


class FaceFinder:
    """`find(frame, seconds)` -> its faces: detected in every nth frame, followed in between as far as that succeeds."""

    def __init__(self, detector: FaceDetector, every: int = 1) -> None:
        self._detector = detector
        self._every = every
        self._follower = OpticalFlowFollower()
        self._followed = 0
        self._last = -np.inf

    def __call__(self, frame: np.ndarray, seconds: float) -> list[Detection]:
        """(H, W, 3) frame at `seconds` of its source's clock -> its faces, in pixels, best first."""
        near = 0 <= seconds - self._last < PATIENCE
        self._last = seconds
        if near and self._followed + 1 < self._every:
            followed = self._follower(frame)
            if followed is not None:
                self._followed += 1
                return followed
        faces = self._detector(frame)
        if self._every > 1:
            self._follower.start(frame, faces)
        self._followed = 0
        return faces

    def new_scene(self) -> None:
        """Detect in the next frame, whenever that is."""
        self._last = -np.inf


class OpticalFlowFollower:
    """`follower(frame)` -> the faces given to `start`, where they are now; None where one of them was lost."""

    def __init__(self) -> None:
        self._faces: list[Detection] = []
        self._grey = np.empty((0, 0), np.uint8)

    def start(self, frame: np.ndarray, faces: Sequence[Detection]) -> None:
        """Follow these faces, found in this (H, W, 3) frame, from here on."""
        self._faces, self._grey = list(faces), _grey(frame)

    def __call__(self, frame: np.ndarray) -> list[Detection] | None:
        """(H, W, 3) next frame -> the faces in the same order; None where they must be looked for."""
        before, now = self._grey, _grey(frame)
        if before.shape != now.shape or not self._faces:
            return None
        scale = max(frame.shape[:2]) / max(now.shape)
        marks = np.stack([face.landmarks for face in self._faces]) / scale  # (B, 5, 2)
        sizes = np.array([max(face.width, face.height) for face in self._faces]) / scale
        moved = _flow(before, now, marks, sizes)
        if moved is None:
            return None
        faces = [_carried(face, points * scale) for face, points in zip(self._faces, moved, strict=True)]
        found = [face for face in faces if face is not None and _inside(face, frame.shape[1], frame.shape[0])]
        if len(found) < len(faces):
            return None
        self._faces, self._grey = found, now
        return list(found)


def _grey(frame: np.ndarray) -> Image:
    """(H, W, 3) -> grey at `LONGEST` or smaller."""
    grey = cv2.cvtColor(as_bgr(frame), cv2.COLOR_BGR2GRAY)
    scale = LONGEST / max(grey.shape)
    if scale >= 1:
        return grey
    size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)


def _flow(before: Image, now: Image, marks: Points, sizes: NDArray[np.float64]) -> Points | None:
    """(B, 5, 2) landmarks before -> now; None where going back does not lead to where it began."""

    def follow(a: Image, b: Image, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
        moved, status, _ = cv2.calcOpticalFlowPyrLK(a, b, points, None, winSize=(WINDOW, WINDOW), maxLevel=LEVELS)
        return moved, bool(status.all())

    start = marks.reshape(-1, 1, 2).astype(np.float32)
    there, found = follow(before, now, start)
    back, found_back = follow(now, before, there)
    off = np.linalg.norm((back - start).reshape(len(marks), 5, 2), axis=-1)
    if not (found and found_back and np.isfinite(there).all() and (off < THERE_AND_BACK * sizes[:, None]).all()):
        return None
    return there.reshape(marks.shape).astype(np.float64)


def _carried(face: Detection, landmarks: Points) -> Detection | None:
    """The face with its box moved and scaled as its (5, 2) landmarks were; None where they moved otherwise."""
    old, new = face.landmarks - face.landmarks.mean(axis=0), landmarks - landmarks.mean(axis=0)
    # The similarity nearest in the least squares, with points as complex numbers: new = factor * old.
    a, b = old[:, 0] + 1j * old[:, 1], new[:, 0] + 1j * new[:, 1]
    factor = np.vdot(a, b) / max(np.vdot(a, a).real, 1e-9)
    size, growth = max(face.width, face.height), abs(factor)
    if not 1 / GROWTH < growth < GROWTH or np.sqrt(np.mean(np.abs(b - factor * a) ** 2)) > BENT * size:
        return None
    aside = factor * complex(*(np.array([face.x + face.width / 2, face.y + face.height / 2]) - face.landmarks.mean(0)))
    centre = complex(*landmarks.mean(axis=0)) + aside
    width, height = face.width * growth, face.height * growth
    return dataclasses.replace(
        face,
        x=centre.real - width / 2,
        y=centre.imag - height / 2,
        width=float(width),
        height=float(height),
        landmarks=landmarks,
    )


def _inside(face: Detection, width: int, height: int) -> bool:
    """Whether the middle of the face is still in the frame."""
    return 0 <= face.x + face.width / 2 < width and 0 <= face.y + face.height / 2 < height
