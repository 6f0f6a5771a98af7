"""The sequences that are searched: people who enter, leave, cross, turn and shrink, crowds, and the bundled clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common.people import Person, Pose, paste, person_around, smooth_background
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
    size = max(face.width, face.height)
    return person_around(image, round(face.x + face.width / 2), round(face.y + face.height / 2), size, SURROUNDINGS)


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
    background = smooth_background(rng, WIDTH, HEIGHT, (5, 7)).astype(np.float32)
    count = round(FPS * SECONDS)
    for number in range(count):
        canvas = background.copy()
        for index, path in enumerate(paths):
            pose = path(number / count)
            if pose is not None:
                paste(canvas, people[(seed + index) % len(people)], pose)
        noisy = canvas + rng.normal(0, NOISE, canvas.shape)
        yield np.rint(noisy).clip(0, 255).astype(np.uint8), number / FPS
