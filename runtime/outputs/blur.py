"""Makes faces unrecognisable in every picture that leaves the loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from iern.runtime.faces.face import Face
from iern.runtime.imaging.images import Image
from iern.runtime.outputs.frame_result import FrameResult, Sink

MARGIN = 0.35
"""Part of the box's longer side that is added on every side, since hair, ears and chin identify a person, too."""
PATCHES = 5
"""Patches of mean colour along the longer side of a face. So few numbers hold no likeness, whatever is done to them."""
HOLD_SECONDS = 1.0
"""How long a region stays blurred after its face was last found. The detector may miss a face for some frames."""
MOST_REGIONS = 256
"""Regions that are held at most, the newest ones."""

Region = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, inside the frame."""


class FaceBlur:
    """Blurs the faces of successive results, and where a face was found during the last HOLD_SECONDS."""

    def __init__(self) -> None:
        self._held: list[tuple[float, Region]] = []
        self._shape: tuple[int, ...] = ()

    def __call__(self, result: FrameResult) -> FrameResult:
        """The result with a frame in which no face can be recognised."""
        self.hold(result)
        return self.blurred(result)

    def hold(self, result: FrameResult) -> None:
        """Keep where the result's faces are, without blurring anything."""
        image, now = result.frame.image, result.frame.time
        if image.shape != self._shape:
            self._held, self._shape = [], image.shape
        held = [(time, region) for time, region in self._held if abs(now - time) <= HOLD_SECONDS]
        held += [(now, region) for region in _regions(result.faces, image)]
        self._held = held[-MOST_REGIONS:]

    def blurred(self, result: FrameResult) -> FrameResult:
        """The result, blurred at its own faces and at all that are held. Another thread may call `hold` meanwhile."""
        image = result.frame.image
        held = [region for _, region in self._held] if image.shape == self._shape else []
        blurred = _blur(image, [*held, *_regions(result.faces, image)])
        return dataclasses.replace(result, frame=dataclasses.replace(result.frame, image=blurred))


def with_faces_blurred(sinks: Sequence[Sink]) -> Sink:
    """One sink that blurs the faces once and passes the result to all `sinks`, before any of them draws or keeps it.

    Each of several sources has its own regions.
    """
    blurs: dict[str, FaceBlur] = {}

    def pass_on(result: FrameResult) -> None:
        blurred = blurs.setdefault(result.frame.source, FaceBlur())(result)
        for sink in sinks:
            sink(blurred)

    return pass_on


def blur_faces(image: Image, faces: Sequence[Face]) -> Image:
    """(H, W, 3) frame -> a copy in which each face is a few smooth patches of mean colour."""
    return _blur(image, _regions(faces, image))


def _blur(image: Image, regions: Sequence[Region]) -> Image:
    """Compute all patches from the frame itself. Where regions overlap, the later one covers the earlier."""
    canvas = image.copy()
    for left, top, right, bottom in regions:
        face = image[top:bottom, left:right]
        scale = PATCHES / max(face.shape[:2])
        patches = max(1, round(face.shape[1] * scale)), max(1, round(face.shape[0] * scale))
        means = cv2.resize(face, patches, interpolation=cv2.INTER_AREA)
        canvas[top:bottom, left:right] = cv2.resize(means, face.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return canvas


def _regions(faces: Sequence[Face], image: Image) -> list[Region]:
    return [region for face in faces if (region := _region(face, image))]


def _region(face: Face, image: Image) -> Region | None:
    """The face with its margin, cut at the edges of the frame. None if no part of it is in the frame."""
    box = face.detection
    if not np.isfinite((box.x, box.y, box.width, box.height)).all():
        return None
    margin = MARGIN * max(box.width, box.height)
    left, top = max(0, int(box.x - margin)), max(0, int(box.y - margin))
    right = min(image.shape[1], int(np.ceil(box.x + box.width + margin)))
    bottom = min(image.shape[0], int(np.ceil(box.y + box.height + margin)))
    return (left, top, right, bottom) if left < right and top < bottom else None
