"""Places on a frame: where a text hides least of the faces and of the other texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from iern.runtime.faces.face import Face
from iern.runtime.imaging.images import Image

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels. Right and bottom are just outside the box."""


def free_place(
    canvas: Image,
    corners: Iterable[tuple[int, int]],
    width: int,
    height: int,
    texts: Sequence[Box],
    boxes: Sequence[Box],
) -> Box:
    """Return the place, moved into the frame, that hides least of the texts, and then least of the boxes.

    `corners` are the upper left corners of the places, the preferred one first.
    """
    frame_height, frame_width = canvas.shape[:2]
    inside = [(max(0, min(x, frame_width - width)), max(0, min(y, frame_height - height))) for x, y in corners]
    places = [(x, y, x + width, y + height) for x, y in inside]
    return min(places, key=lambda place: [sum(overlap(place, other) for other in group) for group in (texts, boxes)])


def overlap(a: Box, b: Box) -> int:
    """Return the number of pixels in both boxes."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def box_of(face: Face) -> Box:
    """Return the box of the face in whole pixels. It may reach beyond the frame."""
    box = face.detection
    return round(box.x), round(box.y), round(box.x + box.width), round(box.y + box.height)
