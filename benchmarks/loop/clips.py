"""The clips that every contestant sees: the bundled one, and made ones with a known number of moving faces."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

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
PATCH_SIDE = round(1.1 * SURROUNDINGS * FACE_HEIGHT)
"""Pixels of a person's square before it is pasted: as large as it ever becomes."""


@dataclass(frozen=True)
class Person:
    """Where a face is in the bundled clip."""

    frame: int
    x: int
    """Centre of the face, in pixels."""
    y: int
    height: int


PEOPLE = (Person(20, 292, 172, 193), Person(70, 326, 141, 252), Person(130, 216, 236, 158), Person(130, 478, 214, 163))


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
    if len(frames) <= max(person.frame for person in PEOPLE):
        raise SourceError(f"{DEMO_CLIP}: has {len(frames)} frames that can be read; install the package again")
    return Clip("demo", frames)


def made_clip(faces: int, demo: Clip) -> Clip:
    """A clip with 1 to MOST_FACES people of the bundled clip, on a smooth background. Every call makes the same one.

    Each face moves on an ellipse in its cell, turns by up to 8 degrees and grows and shrinks by a tenth.
    """
    if not 1 <= faces <= MOST_FACES:
        raise SourceError(f"found {faces} faces, expected 1 to {MOST_FACES}: the made picture has {MOST_FACES} cells")
    cells = [index * MOST_FACES // faces for index in range(faces)]
    patches = [_patch(demo, person) for person in PEOPLE]
    background = _background()
    frames = []
    for number in range(PERIOD):
        frame = background.copy()
        for index, cell in enumerate(cells):
            _paste(_cell(frame, cell), patches[index % len(patches)], number / PERIOD + cell / MOST_FACES)
        frames.append(frame)
    return Clip(f"{faces} face{'s' * (faces > 1)}", frames)


def _patch(demo: Clip, person: Person) -> Image:
    """(PATCH_SIDE, PATCH_SIDE, 3): the square around a person's face; beyond the picture its border is repeated."""
    half = round(SURROUNDINGS * person.height / 2)
    padded = cv2.copyMakeBorder(demo.frames[person.frame], half, half, half, half, cv2.BORDER_REPLICATE)
    square = padded[person.y : person.y + 2 * half, person.x : person.x + 2 * half]
    return cv2.resize(square, (PATCH_SIDE, PATCH_SIDE), interpolation=cv2.INTER_AREA)


def _background() -> Image:
    """Colours that change slowly over the picture: nothing in them looks like a face."""
    coarse = np.random.default_rng(0).integers(70, 170, (5, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def _cell(frame: Image, cell: int) -> Image:
    """The part of the picture that belongs to a cell, as a view."""
    (row, column), height, width = divmod(cell, ACROSS), HEIGHT // DOWN, WIDTH // ACROSS
    return frame[row * height : (row + 1) * height, column * width : (column + 1) * width]


def _paste(canvas: Image, patch: Image, turns: float) -> None:
    """Draw the patch into the canvas, where it is after that many turns of its ellipse."""
    angle = 2 * math.pi * turns
    scale = FACE_HEIGHT * SURROUNDINGS / len(patch) * (1 + 0.1 * math.sin(angle))
    turn = math.radians(8 * math.cos(angle))
    middle = np.array([canvas.shape[1] / 2 + 40 * math.cos(angle), canvas.shape[0] / 2 + 10 * math.sin(angle)])
    canvas_from_patch = _similarity(scale, turn, middle, len(patch) / 2)
    size = canvas.shape[1::-1]
    drawn = cv2.warpAffine(patch, canvas_from_patch, size, flags=cv2.INTER_LINEAR)
    opacity = cv2.warpAffine(_opacity(len(patch)), canvas_from_patch, size)[..., None]
    canvas[:] = np.rint(opacity * drawn + (1 - opacity) * canvas).astype(np.uint8)


def _similarity(scale: float, turn: float, middle: NDArray[np.float64], centre: float) -> NDArray[np.float64]:
    """(2, 3) map that scales and turns a square patch, and moves its centre to `middle`."""
    linear = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    return np.column_stack([linear, middle - linear @ (centre, centre)])


def _opacity(side: int) -> NDArray[np.float32]:
    """(side, side): 1 in a disc around the centre, falling to 0 at the edges, so that no edge shows."""
    line = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    distance = np.hypot(line[:, None], line[None])
    return np.clip((1 - distance) / 0.2, 0, 1).astype(np.float32)
