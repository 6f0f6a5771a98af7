"""Command: make demo.mp4, the clip of `make demo`, from photographs. Its result is in the repository.

    python runtime/media/make_demo.py tests/data/photos

The same photographs and the same OpenCV give the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from iern.runtime.system.command import command

import cv2
import numpy as np

from iern.runtime.errors import DataError, OutputError
from iern.runtime.imaging.images import Image, read_image
from iern.runtime.system.arguments import Parser
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.runtime.system.files import MORE_SPACE, atomic_path
from iern.runtime.system.opencv import silence_opencv

WIDTH, HEIGHT, FPS = 640, 480, 15
FADE = 10
"""Frames of a cross-fade."""
SOFTNESS = 0.7
"""Standard deviation of the smoothing, in pixels of the clip. It prevents aliasing and halves the file."""


@dataclass(frozen=True)
class CropBox:
    """A 4:3 crop of a photograph: its centre and width, as fractions of the photograph's width and height."""

    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Scene:
    """A photograph, by its file name without the suffix, and a slow move over it."""

    photograph: str
    start: CropBox
    end: CropBox
    frames: int


SCENES = (
    Scene("astronaut", CropBox(0.5, 0.38, 1.0), CropBox(0.44, 0.24, 0.5), 42),
    Scene("biden_portrait", CropBox(0.62, 0.18, 0.70), CropBox(0.52, 0.20, 0.90), 42),
    # Ends with the face at its place in the next scene, so that the cross-fade shows no third face.
    Scene("obama_portrait", CropBox(0.56, 0.34, 0.95), CropBox(0.352, 0.248, 0.703), 42),
    Scene("obama_and_biden", CropBox(0.50, 0.36, 0.40), CropBox(0.50, 0.37, 0.52), 60),
)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Write the clip and print its size."""
    parser = Parser(description="Make the demo clip from the photographs in a folder.")
    parser.add_argument("photographs", type=Path, help="folder with " + ", ".join(s.photograph for s in SCENES))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "demo.mp4")
    arguments = parser.parse_args(argv)
    silence_opencv()
    refuse_conflicts({"the photographs": arguments.photographs.glob("*")}, {"--output": arguments.output})
    frames = write_clip(arguments.photographs, arguments.output)
    print(f"wrote {arguments.output}: {frames} frames, {arguments.output.stat().st_size / 1000:.0f} kB")


def write_clip(photographs: Path, output: Path) -> int:
    """Write the clip of the folder's photographs to `output`, completely or not at all. Returns the frame count."""
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
        written = cv2.VideoCapture(str(temporary)).get(cv2.CAP_PROP_FRAME_COUNT)
        if written != count:  # OpenCV reports no failed write
            raise OutputError(f"{output}: cannot be written completely; {MORE_SPACE}; an older file is unchanged")
    return count


def clip(photographs: list[Image]) -> Iterator[Image]:
    """One photograph per scene -> the frames (HEIGHT, WIDTH, 3), with a cross-fade between scenes."""
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
        box = CropBox(*(a + share * (b - a) for a, b in zip(_tuple(start), _tuple(end), strict=True)))
        yield _crop(photograph, box)


def _tuple(box: CropBox) -> tuple[float, float, float]:
    return box.x, box.y, box.width


def _crop(photograph: Image, box: CropBox) -> Image:
    """The crop at (HEIGHT, WIDTH), smoothed. Beyond the edge the border is repeated."""
    height, width = photograph.shape[:2]
    scale = box.width * width / WIDTH  # photograph pixels per clip pixel
    smooth = cv2.GaussianBlur(photograph, (0, 0), SOFTNESS * scale)
    left, top = box.x * width - scale * WIDTH / 2, box.y * height - scale * HEIGHT / 2
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
