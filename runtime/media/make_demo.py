"""Command: make demo.mp4, the clip of `make demo`, from photographs. Run once; its result is in the repository.

    python runtime/media/make_demo.py tests/data/photos

The same photographs and the same OpenCV give the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from iern.runtime.errors import DataError, IernError, OutputError
from iern.runtime.imaging.images import Image, read_image
from iern.runtime.system.files import atomic_path

WIDTH, HEIGHT, FPS = 640, 480, 15
FADE = 10
"""Frames of a cross-fade."""
SOFTNESS = 0.7
"""Standard deviation of the smoothing, in pixels of the clip: against aliasing, and half the bytes of a sharp clip."""


@dataclass(frozen=True)
class View:
    """A 4:3 cut-out of a photograph: centre and width, in parts of its width and height."""

    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Scene:
    """A photograph, by the name of its file without the suffix, and a slow move over it."""

    photograph: str
    start: View
    end: View
    frames: int


SCENES = (
    Scene("astronaut", View(0.5, 0.38, 1.0), View(0.44, 0.24, 0.5), 42),
    Scene("biden_portrait", View(0.62, 0.18, 0.70), View(0.52, 0.20, 0.90), 42),
    # Ends with the face where the next scene has the same man's: the fade between shows no third face.
    Scene("obama_portrait", View(0.56, 0.34, 0.95), View(0.352, 0.248, 0.703), 42),
    Scene("obama_and_biden", View(0.50, 0.36, 0.40), View(0.50, 0.37, 0.52), 60),
)


def main() -> int:
    """Write the clip and say how large it is."""
    parser = argparse.ArgumentParser(description="Make the demo clip from the photographs in a folder.")
    parser.add_argument("photographs", type=Path, help="folder with " + ", ".join(s.photograph for s in SCENES))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "demo.mp4")
    arguments = parser.parse_args()
    try:
        frames = write_clip(arguments.photographs, arguments.output)
    except IernError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {arguments.output}: {frames} frames, {arguments.output.stat().st_size / 1000:.0f} kB")
    return 0


def write_clip(photographs: Path, output: Path) -> int:
    """Write the clip of the folder's photographs to `output`, whole or not at all; returns the number of frames."""
    count = 0
    with atomic_path(output) as temporary:
        codec = cv2.VideoWriter_fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(temporary), codec, FPS, (WIDTH, HEIGHT))
        if not writer.isOpened():
            raise OutputError(f"{output}: OpenCV cannot write MPEG-4 here; it needs a build with FFmpeg")
        for frame in clip([read_image(_find(photographs, scene.photograph)) for scene in SCENES]):
            writer.write(frame)
            count += 1
        writer.release()
    return count


def clip(photographs: list[Image]) -> Iterator[Image]:
    """One photograph a scene -> the frames (HEIGHT, WIDTH, 3), each scene faded into the next."""
    leaving: list[Image] = []
    for photograph, scene in zip(photographs, SCENES, strict=True):
        frames = list(_move(photograph, scene))
        for index, old in enumerate(leaving):
            share = (index + 1) / (FADE + 1)
            frames[index] = cv2.addWeighted(old, 1 - share, frames[index], share, 0)
        yield from frames[:-FADE]
        leaving = frames[-FADE:]
    yield from leaving


def _move(photograph: Image, scene: Scene) -> Iterator[Image]:
    for index in range(scene.frames):
        share = index / (scene.frames - 1)
        share = share * share * (3 - 2 * share)  # start and stop gently
        start, end = scene.start, scene.end
        view = View(*(a + share * (b - a) for a, b in zip(_tuple(start), _tuple(end), strict=True)))
        yield _cut(photograph, view)


def _tuple(view: View) -> tuple[float, float, float]:
    return view.x, view.y, view.width


def _cut(photograph: Image, view: View) -> Image:
    """The view at (HEIGHT, WIDTH), smoothed; the border repeats beyond the edge."""
    height, width = photograph.shape[:2]
    scale = view.width * width / WIDTH  # photograph pixels per clip pixel
    smooth = cv2.GaussianBlur(photograph, (0, 0), SOFTNESS * scale)
    left, top = view.x * width - scale * WIDTH / 2, view.y * height - scale * HEIGHT / 2
    left = float(np.clip(left, 0, max(0.0, width - scale * WIDTH)))
    top = float(np.clip(top, 0, max(0.0, height - scale * HEIGHT)))
    photograph_from_clip = np.array([[scale, 0, left], [0, scale, top]])
    return cv2.warpAffine(
        smooth,
        photograph_from_clip,
        (WIDTH, HEIGHT),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _find(folder: Path, name: str) -> Path:
    found = sorted(folder.glob(f"{name}.*"))
    if not found:
        raise DataError(f"{folder}: has no {name}.jpg or {name}.png; name the folder with the four photographs")
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
