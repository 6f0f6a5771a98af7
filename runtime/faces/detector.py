"""Faces in a frame: YuNet on a copy of bounded size, or on small windows of the frame.

YuNet finds faces of about 16 to 450 pixels. It misses larger ones or returns wrong boxes for them. The detector
therefore gives YuNet a copy whose longer side is at most FRAME_SIDE. A face that fills this copy is still too large. If
the first pass finds no face, or one near the limit, a second pass runs on a much smaller copy. In photographs, and if
the user asks for it, a pass on a larger copy adds the faces that are too small in the first one.

A window around a face that was there before shows it at the size at which YuNet is reliable, see `windows`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from iern.runtime.bundled import YUNET
from iern.runtime.faces.windows import Window, cut_window, in_frame
from iern.runtime.faces.yunet import open_yunet
from iern.runtime.imaging.detection import Detection
from iern.runtime.imaging.images import Image, as_bgr

FRAME_SIDE = 640
"""Longest side, in pixels, of the copy for the first pass. Faces from 1/40 of the frame's side are found."""

PHOTOGRAPH_PIXELS = 2560 * 1920
"""Pixels of the copy in which small faces of a photograph are found. Larger copies take seconds and gigabytes."""

LARGEST_SMALL_FACE = 32
"""Side, in pixels of the first copy, below which the pass on a larger copy adds faces. The first pass finds the larger
ones, and YuNet takes parts of very large faces for faces."""

SECOND_PASS_SIDE = 224
"""Longest side, in pixels, of the copy for the second pass. Smaller frames are enlarged to it for the first pass.

Of face crops that fill the frame, at least 99.5 % are found at this size, but 44 to 72 % at 640 and 77 to 98 % at 48.
."""

MAX_RELIABLE_FACE = 450
"""YuNet measures faces longer than this, in pixels of the copy, 10 to 20 % too small. The second pass corrects them."""

SCORE = 0.7
"""Lowest score of a face."""

OVERLAP = 0.3
"""IoU above which two boxes are one face."""

MIN_SIDE = 64
"""Shortest side, in pixels, that YuNet gets. For images up to 32, YuNet in OpenCV 4.13 reads uninitialised memory."""


class FaceDetector:
    """`detector(frame)` -> its faces, best first. Threads may share a detector.

    A pickled or copied detector loads its model again.
    """

    def __init__(
        self,
        model: Path | str = YUNET,
        score: float = SCORE,
        overlap: float = OVERLAP,
        longest_side: int | None = None,
        threads: int | None = None,
    ) -> None:
        """`score` is the lowest score of a face. Of two boxes whose IoU is above `overlap`, the weaker one is dropped.

        `longest_side`, in pixels, bounds the copies in which faces are searched. More than FRAME_SIDE finds smaller
        faces and takes longer. By default that is FRAME_SIDE for frames, and more for photographs.
        `threads` is the number of CPU threads, by default all that this process may use.
        YuNet runs in onnxruntime. If that is missing, or cannot run the model, it runs in OpenCV, which takes twice as
        long and has its own number of threads. A model from OpenCV's zoo has a fixed size, and also runs in OpenCV.
        Raises ArtifactError if the model is missing, damaged or not a YuNet.
        """
        self.longest_side = longest_side
        self._arguments = (Path(model).absolute(), score, overlap, longest_side, threads)
        self._yunet = open_yunet(Path(model), score, overlap, threads)

    def __reduce__(self) -> tuple[type[FaceDetector], tuple[Path, float, float, int | None, int | None]]:
        return type(self), self._arguments

    @property
    def engine(self) -> str:
        """The library that runs YuNet: onnxruntime, or OpenCV."""
        return self._yunet.engine

    def __call__(self, frame: np.ndarray) -> list[Detection]:
        """(H, W, 3) uint8 BGR frame, or grey, BGRA or 16 bits -> faces by falling score, or an empty list.

        Frames may differ in size from call to call. Raises ImageError if the array is not an image.
        """
        return self._search(as_bgr(frame), self.longest_side or FRAME_SIDE)

    def in_photograph(self, image: np.ndarray) -> list[Detection]:
        """Find the faces as in a frame, and also small ones, which takes up to a second.

        Without a `longest_side`, the copy has up to PHOTOGRAPH_PIXELS: in 4000x3000, faces from 40 pixels are found.
        """
        image = as_bgr(image)
        return self._search(image, self.longest_side or _photograph_side(image))

    def in_windows(self, frame: Image, windows: Sequence[Window]) -> list[list[Detection]]:
        """(H, W, 3) BGR frame -> the faces in each window, by falling score, in pixels of the frame.

        All windows go through YuNet in one call.
        """
        if not windows:
            return []
        found = self._yunet([cut_window(frame, window) for window in windows])
        return [
            [in_frame(row, window) for row in rows.astype(np.float64)]
            for rows, window in zip(found, windows, strict=True)
        ]

    def searched_pixels(self, frame: Image) -> int:
        """Return how many pixels YuNet gets at least when the (H, W, 3) frame is searched: a measure of the cost."""
        longest, pixels = max(frame.shape[:2]), frame.shape[0] * frame.shape[1]
        sides = {min(longest, self.longest_side or FRAME_SIDE), min(longest, FRAME_SIDE)}
        return sum(round(pixels * (side / longest) ** 2) for side in sides)

    def _search(self, image: Image, longest_side: int) -> list[Detection]:
        """Detect faces on copies of at most `longest_side` pixels -> faces in pixels of `image`, by falling score."""
        longest = max(image.shape[:2])
        side = min(longest_side, FRAME_SIDE)
        faces = self._usual_faces(image, side)
        if min(longest, longest_side) <= side:
            return faces
        small = self._detect(image, min(longest, longest_side))
        return _with_small_faces(faces, small, LARGEST_SMALL_FACE * longest / side)

    def _usual_faces(self, image: Image, longest_side: int) -> list[Detection]:
        """Detect faces on a copy of at most `longest_side` pixels, and on a smaller one if faces may be too large."""
        longest = max(image.shape[:2])
        side = min(max(longest, SECOND_PASS_SIDE), longest_side)
        faces = self._detect(image, side)
        largest = max((max(face.width, face.height) for face in faces), default=None)
        if side > SECOND_PASS_SIDE and (largest is None or largest * side / longest > MAX_RELIABLE_FACE):
            faces = _without_duplicates(faces + self._detect(image, SECOND_PASS_SIDE))
        return faces

    def _detect(self, image: Image, side: int) -> list[Detection]:
        """Detect faces on a copy whose longer side has `side` pixels -> faces in pixels of `image`."""
        copy = _resized(image, side)
        scale = np.array([image.shape[1] / copy.shape[1], image.shape[0] / copy.shape[0]])
        copy = _padded(copy)
        (rows,) = self._yunet([copy])
        return [Detection.from_row(row, scale) for row in rows.astype(np.float64)]


def _photograph_side(image: Image) -> int:
    """Return the longest side, in pixels, that keeps a copy of the image within PHOTOGRAPH_PIXELS."""
    height, width = image.shape[:2]
    side = max(height, width) * math.sqrt(PHOTOGRAPH_PIXELS / (height * width))
    return int(min(side, PHOTOGRAPH_PIXELS / MIN_SIDE))  # the shorter side of a strip is padded


def _resized(image: Image, longest: int) -> Image:
    """Scale the image so that its longer side has `longest` pixels."""
    scale = longest / max(image.shape[:2])
    if scale == 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _padded(image: Image) -> Image:
    """Add black below and to the right until no side is shorter than MIN_SIDE."""
    below, right = (max(0, MIN_SIDE - side) for side in image.shape[:2])
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT) if below or right else image


def _without_duplicates(faces: list[Detection]) -> list[Detection]:
    """Sort by falling score, and drop faces that overlap a better one by half of the smaller box."""
    kept: list[Detection] = []
    for face in sorted(faces, key=lambda face: face.score, reverse=True):
        if all(_overlap(face, better) < 0.5 for better in kept):
            kept.append(face)
    return kept


def _with_small_faces(faces: list[Detection], found: list[Detection], limit: float) -> list[Detection]:
    """Add the found faces with sides below `limit`, in pixels, that overlap no other face -> faces by falling score."""
    small = [
        face
        for face in found
        if max(face.width, face.height) < limit and all(_overlap(face, other) < 0.5 for other in faces)
    ]
    return sorted(faces + small, key=lambda face: face.score, reverse=True)


def _overlap(a: Detection, b: Detection) -> float:
    """Return the area that is in both boxes, divided by the area of the smaller box."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(width, 0.0) * max(height, 0.0) / min(a.width * a.height, b.width * b.height)
