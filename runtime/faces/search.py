"""Where faces are looked for over time: in the whole frame now and then, and around the known faces in between."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.faces.detector import OVERLAP
from iern.runtime.faces.detector_protocol import Detector, WindowDetector, faces_in_frame, faces_in_photograph
from iern.runtime.faces.tracker import MAX_GAP
from iern.runtime.faces.windows import SIDE, like_faces, window_around
from iern.runtime.imaging.detection import Detection, intersection_over_union
from iern.runtime.imaging.images import Image, as_bgr

Search = Literal["tracked", "every-frame"]
"""`tracked`: in windows around the known faces, and a few times a second in the whole frame. `every-frame`: in the
whole of every frame."""

LONGEST_WAIT = 0.22
"""Seconds from one search of the whole frame to the next: five a second at 15, 25 and 30 frames a second. A new face
waits no longer."""

THUMBNAIL = (16, 12)
"""Width and height, in pixels, of the copies that are compared to notice a change of scene."""

SCENE_CHANGE = 20.0
"""Mean difference of two thumbnails, of 255, from one frame to the next, above which the scene has changed."""


class FaceFinder:
    """`find(frame, seconds)` -> its faces. Use one finder per source and thread.

    The whole frame is searched at the start, when LONGEST_WAIT has passed by the source's clock, when the scene
    changes, and when a face is not found in its window. In between, only windows around the known faces are searched.
    A face of about the same size that comes out from behind a known one is found in the window of that one. With a
    detector that cannot search windows, the whole of every frame is searched.
    """

    def __init__(self, detector: Detector, search: Search = "tracked") -> None:
        self._detector = detector
        self._by_windows = detector if search == "tracked" and isinstance(detector, WindowDetector) else None
        self._faces: list[Detection] = []
        self._thumbnail: NDArray[np.float32] | None = None
        self._last_seconds = self._last_search = -np.inf
        self._shape: tuple[int, ...] = ()

    def __call__(self, frame: np.ndarray, seconds: float, photograph: bool = False) -> list[Detection]:
        """(H, W, 3) frame at `seconds` of its source's clock -> its faces, in pixels, best first.

        A `photograph` is searched whole, and for small faces, too. Raises ImageError if the array is not an image, and
        ArgumentError if the detector returns anything but faces.
        """
        if photograph:
            self.reset()
            return faces_in_photograph(self._detector, frame)
        if self._by_windows is None:
            return faces_in_frame(self._detector, frame)
        image = as_bgr(frame)
        due = self._is_due(image, seconds)
        faces = None if due else self._in_windows(self._by_windows, image)
        if faces is None:
            faces = faces_in_frame(self._detector, image)
            self._last_search = seconds
        self._faces = faces
        return list(faces)

    def reset(self) -> None:
        """Search the whole of the next frame, whatever its time."""
        self._last_search = self._last_seconds = -np.inf

    def _is_due(self, image: Image, seconds: float) -> bool:
        """Whether the whole frame must be searched. It takes note of the frame."""
        step, last_thumbnail, last_shape = seconds - self._last_seconds, self._thumbnail, self._shape
        self._last_seconds, self._thumbnail, self._shape = seconds, _thumbnail(image), image.shape
        if last_thumbnail is None or image.shape != last_shape or not 0 <= step < MAX_GAP:
            return True
        # The search comes now if it would be too late in the next frame.
        if seconds + step - self._last_search > LONGEST_WAIT:
            return True
        return float(np.abs(self._thumbnail - last_thumbnail).mean()) > SCENE_CHANGE

    def _in_windows(self, detector: WindowDetector, image: Image) -> list[Detection] | None:
        """Search around the known faces -> the faces, best first. None if the whole frame must be searched."""
        if len(self._faces) * SIDE**2 >= detector.searched_pixels(image):
            return None  # the whole frame costs less than so many windows
        windows = [window_around(face) for face in self._faces]
        found = detector.in_windows(image, windows)
        like = [like_faces(*each) for each in zip(self._faces, windows, found, strict=True)]
        known, others = [faces[0] for faces in like if faces], [face for faces in like for face in faces[1:]]
        if len(known) < len(windows) or _any_twice(known):
            return None
        return sorted(_with_others(known, others), key=lambda face: face.score, reverse=True)


def _with_others(known: Sequence[Detection], others: Sequence[Detection]) -> list[Detection]:
    """Add the faces that came out from behind a known one, or next to it. Each is in one list or several."""
    kept = list(known)
    for face in others:
        if not any(intersection_over_union(face, other) > OVERLAP for other in kept):
            kept.append(face)
    return kept


def _any_twice(faces: Sequence[Detection]) -> bool:
    """Whether two windows found the same face, so that another one is lost."""
    return any(intersection_over_union(a, b) > OVERLAP for a, b in itertools.combinations(faces, 2))


def _thumbnail(image: Image) -> NDArray[np.float32]:
    """(H, W, 3) -> (12, 16) levels of green, most of the brightness. Most pixels are skipped: that costs less."""
    step = max(1, min(image.shape[:2]) // 60)
    green = image[::step, ::step, 1].astype(np.float32)
    return cv2.resize(green, THUMBNAIL, interpolation=cv2.INTER_AREA)
