"""The sequences that are searched: people who enter, leave, cross, turn and shrink, crowds, and the bundled clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.errors import DataError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.detection import Detection, largest
from iern.runtime.imaging.formats import is_image_file
from iern.runtime.imaging.images import Image, read_image
from iern.runtime.sources.open_source import open_source

FPS = 30
"""Frames a second of the made sequences."""
SECONDS = 2.0
WIDTH, HEIGHT = 640, 480
NOISE = 4.0
"""Standard deviation of a pixel's noise, of 255, as of a camera in a lit room."""
SURROUNDINGS = 1.6
"""Side of a person's picture, as a multiple of the longer side of the face."""
PEOPLE_FRAMES = (20, 70, 130)
"""Frames of the bundled clip that show all of its people."""
MOST_HEADS = 16


@dataclass(frozen=True, eq=False)
class Person:
    """A square picture around one face."""

    picture: Image
    face: float
    """Longer side of the face, as a share of the picture's side."""


@dataclass(frozen=True)
class Pose:
    """Where a face is in a frame."""

    x: float
    """Centre, in pixels."""
    y: float
    size: float
    """Longer side of the face, in pixels."""
    turn: float = 0.0
    """Degrees."""


Motion = Callable[[float], "Pose | None"]
"""Time as a share of the sequence, 0 to 1 -> the pose of a face. None if it is not there."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames with their times."""

    name: str
    frames: Callable[[], Iterator[tuple[Image, float]]]
    """Every call yields the same frames, (H, W, 3) BGR, each with its time in seconds."""


def sequences(people: Sequence[Person]) -> list[Clip]:
    """The bundled clip, and the made sequences with these people."""
    made: dict[str, list[Motion]] = {
        "enter and leave": [_passing(start, row) for row, start in enumerate((0.0, 0.15, 0.3, 0.45))],
        "cross": [_crossing(1), _crossing(-1)],
        "turn": [lambda t: Pose(320, 240, 130, 45 * math.sin(4 * math.pi * t))],
        "shrink to 20 pixels": [lambda t: Pose(200 + 240 * t, 240, 200 * 0.1**t)],
        "grow to 400 pixels": [lambda t: Pose(320, 240, 60 * (400 / 60) ** t)],
        "appear": [_appearing(k) for k in range(6)],
        **{f"{count} face{'s' * (count > 1)}": _crowd(count) for count in (1, 2, 4, 8, 16)},
    }
    made_ones = [
        Clip(name, lambda paths=paths, seed=seed: _drawn(people, paths, seed))  # type: ignore[misc]
        for seed, (name, paths) in enumerate(made.items())
    ]
    return [Clip("the bundled clip", bundled_clip), *made_ones]


def bundled_clip() -> Iterator[tuple[Image, float]]:
    """The frames of the bundled clip, with their times."""
    with open_source(str(DEMO_CLIP)) as frames:
        for frame in frames:
            yield frame.image, frame.time


def bundled_people() -> list[Person]:
    """The people of the bundled clip."""
    detector = FaceDetector()
    shown = [image for index, (image, _) in enumerate(bundled_clip()) if index in PEOPLE_FRAMES]
    return [_person(image, face) for image in shown for face in detector(image)]


def people_of(folder: Path) -> list[Person]:
    """People from up to MOST_HEADS portraits of a folder and its subfolders. Raises DataError if none shows a face."""
    detector, people = FaceDetector(), []
    files = sorted(path for path in folder.rglob("*") if is_image_file(path))
    for path in files[:: max(1, len(files) // MOST_HEADS)][:MOST_HEADS]:
        image = read_image(path)
        face = largest(detector(image))
        if face is not None:
            people.append(_person(image, face))
    if not people:
        raise DataError(f"{folder}: found no image with a face; expected a folder of portraits")
    return people


def _person(image: Image, face: Detection) -> Person:
    """Cut the square around a face. Beyond the picture its border is repeated."""
    size = max(face.width, face.height)
    half = round(SURROUNDINGS * size / 2)
    x, y = round(face.x + face.width / 2), round(face.y + face.height / 2)
    padded = cv2.copyMakeBorder(image, half, half, half, half, cv2.BORDER_REPLICATE)
    return Person(padded[y : y + 2 * half, x : x + 2 * half], size / (2 * half))


def _passing(start: float, row: int) -> Motion:
    """From the left to the right, or back, in half of the time, at four heights."""

    def pose(t: float) -> Pose | None:
        at = (t - start) / 0.5
        if not 0 <= at <= 1:
            return None
        x = -60 + (WIDTH + 120) * at
        return Pose(x if row % 2 == 0 else WIDTH - x, 70 + 113 * row, 80)

    return pose


def _crossing(direction: int) -> Motion:
    return lambda t: Pose(320 + direction * 220 * math.cos(2 * math.pi * t), 240 + direction * 25, 110)


def _appearing(index: int) -> Motion:
    """Suddenly there, at a time that falls at another place between two searches for each."""
    start = 0.05 + 0.1237 * index
    return lambda t: Pose(110 + 210 * (index % 3), 130 + 220 * (index // 3), 90) if t >= start else None


def _crowd(count: int) -> list[Motion]:
    """Faces that move on ellipses in cells of a grid, and turn, grow and shrink a little."""
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    size = 0.5 * min(WIDTH / across, HEIGHT / down, 300)

    def path(index: int) -> Motion:
        x, y = WIDTH * (index % across + 0.5) / across, HEIGHT * (index // across + 0.5) / down

        def pose(t: float) -> Pose:
            angle = 2 * math.pi * (1.5 * t + index / count)
            place = x + 0.3 * size * math.cos(angle), y + 0.2 * size * math.sin(angle)
            return Pose(*place, size * (1 + 0.1 * math.sin(angle)), 12 * math.cos(angle))

        return pose

    return [path(index) for index in range(count)]


def _drawn(people: Sequence[Person], paths: Sequence[Motion], seed: int) -> Iterator[tuple[Image, float]]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(70, 170, (5, 7, 3), dtype=np.uint8)
    background = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    count = round(FPS * SECONDS)
    for number in range(count):
        canvas = background.copy()
        for index, path in enumerate(paths):
            pose = path(number / count)
            if pose is not None:
                _paste(canvas, people[(seed + index) % len(people)], pose)
        noisy = canvas + rng.normal(0, NOISE, canvas.shape)
        yield np.rint(noisy).clip(0, 255).astype(np.uint8), number / FPS


def _paste(canvas: NDArray[np.float32], person: Person, pose: Pose) -> None:
    """Draw the person into the (H, W, 3) canvas. The edge of the picture fades out."""
    picture, side = person.picture, len(person.picture)
    scale = pose.size / (person.face * side)
    while scale < 0.5:  # a linear map of so much larger a picture would skip pixels
        picture = cv2.resize(picture, (side // 2, side // 2), interpolation=cv2.INTER_AREA)
        scale, side = scale * side / (side // 2), side // 2
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), pose.turn, scale)
    matrix[:, 2] += (pose.x - (side - 1) / 2, pose.y - (side - 1) / 2)
    drawn = cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR).astype(np.float32)
    opacity = cv2.warpAffine(_opacity(side), matrix, (WIDTH, HEIGHT))[..., None]
    canvas += opacity * (drawn - canvas)


def _opacity(side: int) -> NDArray[np.float32]:
    """(side, side): 1 in a disc around the centre, and 0 at the edges."""
    line = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    return np.clip((1 - np.hypot(line[:, None], line[None])) / 0.2, 0, 1).astype(np.float32)
