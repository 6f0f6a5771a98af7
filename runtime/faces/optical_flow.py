"""Faces followed from frame to frame by optical flow at their landmarks, which costs less than detection."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.tracker import MAX_GAP
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import Image, as_bgr

LONGEST_SIDE = 640
"""Longer side, in pixels, of the grey copy in which faces are followed. The detector uses the same for frames."""

WINDOW = 21
"""Side, in pixels of the copy, of the square around a landmark that is compared at each pyramid level."""
LEVELS = 3
"""Levels of the image pyramid above the copy itself."""

FORWARD_BACKWARD_LIMIT = 0.04
"""Largest forward-backward error of a landmark, in face sizes."""
SHAPE_ERROR_LIMIT = 0.08
"""Largest RMS distance, in face sizes, of the landmarks from a shifted, turned and scaled copy of the old ones."""
SCALE_LIMIT = 1.25
"""Largest factor by which a face can grow or shrink between two frames. A larger one is an error of the flow."""

Points = NDArray[np.float64]


class FaceFinder:
    """`find(frame, seconds)` -> its faces: detected in every nth frame and followed in between.

    If a face is lost in between, the faces are detected at once.
    """

    def __init__(self, detector: FaceDetector, every: int = 1) -> None:
        self._detector = detector
        self._every = every
        self._follower = OpticalFlowFollower()
        self._followed_frames = 0
        self._last_seconds = -np.inf

    def __call__(self, frame: np.ndarray, seconds: float, photograph: bool = False) -> list[Detection]:
        """(H, W, 3) frame at `seconds` of its source's clock -> its faces, in pixels, best first.

        In a `photograph`, small faces are searched for, too.
        """
        continues = 0 <= seconds - self._last_seconds < MAX_GAP
        self._last_seconds = seconds
        if continues and self._followed_frames + 1 < self._every:
            followed = self._follower(frame)
            if followed is not None:
                self._followed_frames += 1
                return followed
        faces = self._detector.in_photograph(frame) if photograph else self._detector(frame)
        if self._every > 1:
            self._follower.start(frame, faces)
        self._followed_frames = 0
        return faces

    def reset(self) -> None:
        """Detect faces in the next frame, whatever its time."""
        self._last_seconds = -np.inf


class OpticalFlowFollower:
    """`follower(frame)` -> the faces given to `start` at their new positions. None if one of them was lost."""

    def __init__(self) -> None:
        self._faces: list[Detection] = []
        self._grey = np.empty((0, 0), np.uint8)

    def start(self, frame: np.ndarray, faces: Sequence[Detection]) -> None:
        """Follow these faces, which were detected in this (H, W, 3) frame."""
        self._faces, self._grey = list(faces), _grey(frame)

    def __call__(self, frame: np.ndarray) -> list[Detection] | None:
        """(H, W, 3) next frame -> the faces in the same order. None if they must be detected."""
        before, now = self._grey, _grey(frame)
        if before.shape != now.shape or not self._faces:
            return None
        scale = max(frame.shape[:2]) / max(now.shape)
        landmarks = np.stack([face.landmarks for face in self._faces]) / scale  # (B, 5, 2)
        sizes = np.array([max(face.width, face.height) for face in self._faces]) / scale
        moved = _track_landmarks(before, now, landmarks, sizes)
        if moved is None:
            return None
        faces = [_moved_face(face, points * scale) for face, points in zip(self._faces, moved, strict=True)]
        found = [face for face in faces if face is not None and _is_inside(face, frame.shape[1], frame.shape[0])]
        if len(found) < len(faces):
            return None
        self._faces, self._grey = found, now
        return list(found)


def _grey(frame: np.ndarray) -> Image:
    """(H, W, 3) -> grey copy whose longer side has at most `LONGEST_SIDE` pixels."""
    grey = cv2.cvtColor(as_bgr(frame), cv2.COLOR_BGR2GRAY)
    scale = LONGEST_SIDE / max(grey.shape)
    if scale >= 1:
        return grey
    size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)


def _track_landmarks(before: Image, now: Image, landmarks: Points, sizes: NDArray[np.float64]) -> Points | None:
    """(B, 5, 2) landmarks in `before` -> in `now`. None if the forward-backward error of one is too large."""

    def follow(a: Image, b: Image, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
        moved, status, _ = cv2.calcOpticalFlowPyrLK(a, b, points, None, winSize=(WINDOW, WINDOW), maxLevel=LEVELS)
        return moved, bool(status.all())

    start = landmarks.reshape(-1, 1, 2).astype(np.float32)
    forward, found = follow(before, now, start)
    backward, found_back = follow(now, before, forward)
    errors = np.linalg.norm((backward - start).reshape(len(landmarks), 5, 2), axis=-1)
    exact = bool((errors < FORWARD_BACKWARD_LIMIT * sizes[:, None]).all())
    if not (found and found_back and np.isfinite(forward).all() and exact):
        return None
    return forward.reshape(landmarks.shape).astype(np.float64)


def _moved_face(face: Detection, landmarks: Points) -> Detection | None:
    """Move and scale the box of a face as its (5, 2) landmarks moved. None if they moved in another way."""
    old, new = face.landmarks - face.landmarks.mean(axis=0), landmarks - landmarks.mean(axis=0)
    # The least-squares similarity transform, with points as complex numbers: new = factor * old.
    a, b = old[:, 0] + 1j * old[:, 1], new[:, 0] + 1j * new[:, 1]
    factor = np.vdot(a, b) / max(np.vdot(a, a).real, 1e-9)
    size, growth = max(face.width, face.height), abs(factor)
    shape_error = np.sqrt(np.mean(np.abs(b - factor * a) ** 2))
    if not 1 / SCALE_LIMIT < growth < SCALE_LIMIT or shape_error > SHAPE_ERROR_LIMIT * size:
        return None
    offset = factor * complex(*(np.array([face.x + face.width / 2, face.y + face.height / 2]) - face.landmarks.mean(0)))
    centre = complex(*landmarks.mean(axis=0)) + offset
    width, height = face.width * growth, face.height * growth
    return dataclasses.replace(
        face,
        x=centre.real - width / 2,
        y=centre.imag - height / 2,
        width=float(width),
        height=float(height),
        landmarks=landmarks,
    )


def _is_inside(face: Detection, width: int, height: int) -> bool:
    """Whether the middle of the face is in the frame."""
    return 0 <= face.x + face.width / 2 < width and 0 <= face.y + face.height / 2 < height
