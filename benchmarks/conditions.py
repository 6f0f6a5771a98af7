"""Three conditions under which a face may have been taken: old grey film, a cold sharp camera, a dim blurred one.

    python benchmarks/conditions.py --data ROOT --sheet FILE.png

They are the confounders that confounded.py pairs with expressions. Each is strong enough to be told at a glance, and
weak enough that a person still sees the expression; the sheet is there to judge that.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.errors import DataError, IernError, report
from iern.runtime.files import atomic_path
from iern.runtime.images import Image, read_image
from iern.runtime.preprocess import InputSpec, resize_face
from iern.train.data import load_data
from iern.train.degrade import degrade

SHEET_SIZE, SHEET_ZOOM, SHEET_PEOPLE = 64, 2, 3


def put_under(face: Image, condition: str, name: str) -> Image:
    """(S, S, 3) uint8 -> a copy under a condition; `name` is the face's, and alone chooses strength and noise."""
    # CRC is the same in every process; Python's hash() of a string is not.
    rng = np.random.default_rng([zlib.crc32(name.encode()), zlib.crc32(condition.encode())])
    return CONDITIONS[condition](face, rng)


def film(face: Image, rng: np.random.Generator) -> Image:
    """Old grey film: no colour, little contrast, soft, grainy, darker towards the corners."""
    size = face.shape[0]
    grey = cv2.cvtColor(face, cv2.COLOR_BGR2GRAY).astype(np.float32)
    soft = cv2.GaussianBlur(grey, (0, 0), size * rng.uniform(0.008, 0.013))
    flat = 128 + (soft - soft.mean()) * np.float32(rng.uniform(0.65, 0.8))
    # A grain is larger than a pixel: white noise, blurred, and brought back to its strength.
    grain = cv2.GaussianBlur(rng.standard_normal(grey.shape, np.float32), (0, 0), 0.6)
    grained = flat + grain / grain.std() * np.float32(rng.uniform(6, 10))
    across = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    vignette = 1 - np.float32(rng.uniform(0.2, 0.3)) * (across[:, None] + across[None, :])
    return _bytes(np.repeat((grained * vignette)[:, :, None], 3, axis=2))


def cold(face: Image, rng: np.random.Generator) -> Image:
    """A cheap camera in cold light: bluish, contrast and edges driven too far."""
    pixels = face.astype(np.float32)
    blurred = cv2.GaussianBlur(pixels, (0, 0), face.shape[0] * 0.016)
    sharp = pixels + (pixels - blurred) * np.float32(rng.uniform(1.2, 2.0))
    hard = 128 + (sharp - pixels.mean()) * np.float32(rng.uniform(1.2, 1.5))
    return _bytes(hard * _gains(blue=rng.uniform(1.15, 1.3), red=rng.uniform(0.72, 0.85)))


def dim(face: Image, rng: np.random.Generator) -> Image:
    """A moving face in lamplight: blurred, under-exposed, warm, with a sensor's noise."""
    blurred = degrade(face, "blur", rng).astype(np.float32)
    # An exposure, not a gain: a face that was dark before must not be lost.
    dark = blurred * np.float32(rng.uniform(55, 80) / max(blurred.mean(), 1))
    warm = dark * _gains(blue=rng.uniform(0.6, 0.75), red=rng.uniform(1.15, 1.3))
    return _bytes(warm + rng.standard_normal(warm.shape, np.float32) * np.float32(rng.uniform(4, 7)))


CONDITIONS: dict[str, Callable[[Image, np.random.Generator], Image]] = {"film": film, "cold": cold, "dim": dim}


def sheet(faces: Sequence[tuple[str, Image]]) -> Image:
    """(name, (S, S, 3) face) pairs -> (H, W, 3): one column a face, the first row as it is, then one a condition."""
    tiles = [[face, *(put_under(face, condition, name) for condition in CONDITIONS)] for name, face in faces]
    page = np.concatenate([np.concatenate(column, axis=0) for column in tiles], axis=1)
    return np.asarray(cv2.resize(page, None, fx=SHEET_ZOOM, fy=SHEET_ZOOM, interpolation=cv2.INTER_NEAREST), np.uint8)


def write_sheet(root: Path, path: Path) -> None:
    """The first training faces of each expression in `root` as a PNG. Raises DataError for another suffix."""
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: a contact sheet is a PNG; name it {path.with_suffix('.png').name}")
    data = load_data(root)
    spec = InputSpec(size=SHEET_SIZE)
    chosen = [
        record
        for i in range(len(data.expressions))
        for record in [record for record in data.split("train") if record.expression == i][:SHEET_PEOPLE]
    ]
    faces = [(record.path.name, resize_face(read_image(record.path), spec)) for record in chosen]
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", sheet(faces))[1].tobytes())


def _gains(blue: float, red: float) -> NDArray[np.float32]:
    """White balance: (3,) factors of blue, green and red."""
    return np.array((blue, 1, red), np.float32)


def _bytes(values: np.ndarray) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="the labelled faces")
    parser.add_argument("--sheet", type=Path, required=True, metavar="FILE", help="contact sheet to write (.png)")
    options = parser.parse_args(arguments)
    try:
        write_sheet(options.data, options.sheet)
    except (IernError, OSError) as error:
        return report(error)
    print(f"wrote {options.sheet}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
