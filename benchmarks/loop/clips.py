"""The clips that every contestant sees: the bundled one, and made ones with a known number of moving faces."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.common.people import Pose, paste, person_around, smooth_background
from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.errors import SourceError
from iern.runtime.imaging.images import Image

FPS = 30
"""Frames a second of every clip. The bundled clip has half of that rate; it is played twice as fast."""

WIDTH, HEIGHT = 1280, 720
ACROSS, DOWN = 4, 4
"""Cells of the made picture. Each has room for one face."""
MOST_FACES = ACROSS * DOWN
PERIOD = 2 * FPS
"""Frames after which a made clip repeats itself, without a jump."""
FACE_HEIGHT = 92
"""Pixels of a face in the made picture, on average."""
SURROUNDINGS = 1.5
"""Side of the pasted square, as a multiple of the height of the face."""


PEOPLE = ((20, 292, 172, 193), (70, 326, 141, 252), (130, 216, 236, 158), (130, 478, 214, 163))
"""Frame of the bundled clip, centre (x, y) and height of each face in it, in pixels."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames that are played in a circle."""

    name: str
    frames: Sequence[Image]
    """(H, W, 3) BGR, all of one size."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.frames[0].shape[:2]
        return width, height

    def forever(self) -> Iterator[Image]:
        """The frames, again and again."""
        while True:
            yield from self.frames


def demo_clip() -> Clip:
    """The bundled clip: 640x480, one or two large faces. Raises SourceError if it cannot be read."""
    capture, frames = cv2.VideoCapture(str(DEMO_CLIP)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    if len(frames) <= max(frame for frame, *_ in PEOPLE):
        raise SourceError(f"{DEMO_CLIP}: has {len(frames)} frames that can be read; install the package again")
    return Clip("demo", frames)


def made_clip(faces: int, demo: Clip) -> Clip:
    """A clip with 1 to MOST_FACES people of the bundled clip, on a smooth background. Every call makes the same one.

    Each face moves on an ellipse in its cell, turns by up to 8 degrees and grows and shrinks by a tenth.
    """
    if not 1 <= faces <= MOST_FACES:
        raise SourceError(f"found {faces} faces, expected 1 to {MOST_FACES}: the made picture has {MOST_FACES} cells")
    cells = [index * MOST_FACES // faces for index in range(faces)]
    people = [person_around(demo.frames[frame], *place, SURROUNDINGS) for frame, *place in PEOPLE]
    background = smooth_background(np.random.default_rng(0), WIDTH, HEIGHT, (5, 8)).astype(np.float32)
    frames = []
    for number in range(PERIOD):
        frame = background.copy()
        for index, cell in enumerate(cells):
            pose = _pose(number / PERIOD + cell / MOST_FACES)
            paste(_cell(frame, cell), people[index % len(people)], pose)
        frames.append(np.rint(frame).astype(np.uint8))
    return Clip(f"{faces} face{'s' * (faces > 1)}", frames)


def _cell(frame: NDArray[np.float32], cell: int) -> NDArray[np.float32]:
    """The part of the picture that belongs to a cell, as a view."""
    (row, column), height, width = divmod(cell, ACROSS), HEIGHT // DOWN, WIDTH // ACROSS
    return frame[row * height : (row + 1) * height, column * width : (column + 1) * width]


def _pose(turns: float) -> Pose:
    """Where a face is in its cell after that many turns of its ellipse."""
    angle = 2 * math.pi * turns
    x, y = WIDTH / ACROSS / 2 + 40 * math.cos(angle), HEIGHT / DOWN / 2 + 10 * math.sin(angle)
    return Pose(x, y, FACE_HEIGHT * (1 + 0.1 * math.sin(angle)), 8 * math.cos(angle))
