"""Faces made unrecognisable, for what leaves the loop as a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from iern.runtime.faces.face import Face
from iern.runtime.imaging.images import Image
from iern.runtime.outputs.frame_result import FrameResult, Sink

MARGIN = 0.35
"""Part of the box's longer side that is added on every side: hair, ears and chin tell who it is, too."""
TILES = 5
"""Means across the longer side of a face: so few numbers hold no likeness, whatever is done to them afterwards."""
HELD_SECONDS = 1.0
"""A place where a face was stays blurred so long: a detector that misses a face for some frames must not show it."""
MOST_HELD = 256
"""Places that are held at most, the newest."""

Region = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, inside the frame."""


def blurred(image: Image, faces: Sequence[Face]) -> Image:
    """(H, W, 3) frame -> a copy in which the faces are a few smooth patches of mean colour."""
    return _without(image, [region for face in faces if (region := _region(face, image))])


def face_blur() -> Callable[[FrameResult], FrameResult]:
    """A function from views in order to the same without faces, those of the last HELD_SECONDS included."""
    held: list[tuple[float, Region]] = []
    size: tuple[int, ...] = ()

    def blur(view: FrameResult) -> FrameResult:
        nonlocal held, size
        image, now = view.frame.image, view.frame.time
        if image.shape != size:
            held, size = [], image.shape
        held = [place for place in held if abs(now - place[0]) <= HELD_SECONDS]
        held += [(now, region) for face in view.faces if (region := _region(face, image))]
        held = held[-MOST_HELD:]
        without = _without(image, [region for _, region in held])
        return dataclasses.replace(view, frame=dataclasses.replace(view.frame, image=without))

    return blur


def without_faces(sinks: Sequence[Sink]) -> Sink:
    """One sink for all of these, which see no face: blurred once for all, before anybody draws or keeps a picture."""
    blur = face_blur()

    def hand_over(view: FrameResult) -> None:
        hidden = blur(view)
        for sink in sinks:
            sink(hidden)

    return hand_over


def _without(image: Image, regions: Sequence[Region]) -> Image:
    """All patches are made from the frame itself: where they overlap, the later covers the earlier."""
    canvas = image.copy()
    for left, top, right, bottom in regions:
        face = image[top:bottom, left:right]
        scale = TILES / max(face.shape[:2])
        tiles = max(1, round(face.shape[1] * scale)), max(1, round(face.shape[0] * scale))
        means = cv2.resize(face, tiles, interpolation=cv2.INTER_AREA)
        canvas[top:bottom, left:right] = cv2.resize(means, face.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return canvas


def _region(face: Face, image: Image) -> Region | None:
    """The face with its margin, as far as it lies in the frame; None where none of it does."""
    box = face.detection
    if not np.isfinite((box.x, box.y, box.width, box.height)).all():
        return None
    margin = MARGIN * max(box.width, box.height)
    left, top = max(0, int(box.x - margin)), max(0, int(box.y - margin))
    right = min(image.shape[1], int(np.ceil(box.x + box.width + margin)))
    bottom = min(image.shape[0], int(np.ceil(box.y + box.height + margin)))
    return (left, top, right, bottom) if left < right and top < bottom else None
