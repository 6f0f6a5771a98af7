"""Command: write a contact sheet of the conditions that training can put a face under.

    python -m benchmarks.confounded.condition_sheet --data ROOT --sheet FILE.png

The conditions are the confounders that `benchmarks.confounded` pairs with expressions; train/data/conditions.py
describes each. On the sheet a person can check that the expression is still visible.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

from iern.runtime.system.command import command

import cv2
import numpy as np

from iern.runtime.errors import DataError
from iern.runtime.imaging.images import Image, read_image
from iern.runtime.imaging.preprocess import InputSpec, resize_face
from iern.runtime.system.arguments import Parser
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.runtime.system.files import atomic_path
from iern.train.data import conditions
from iern.train.data.conditions import CONDITIONS
from iern.train.data.manifest import input_files, load_data

SHEET_SIZE, SHEET_ZOOM, SHEET_PEOPLE = 64, 2, 3


def put_under(face: Image, condition: str, name: str) -> Image:
    """(S, S, 3) uint8 -> the face under a condition. The face's `name` alone decides strength and noise."""
    # CRC is the same in every process; Python's hash() of a string is not.
    return conditions.apply_condition(
        face, condition, np.random.default_rng([zlib.crc32(name.encode()), zlib.crc32(condition.encode())])
    )


def sheet(faces: Sequence[tuple[str, Image]]) -> Image:
    """(name, (S, S, 3) face) pairs -> (H, W, 3): one column for each face: unchanged, then under each condition."""
    tiles = [[face, *(put_under(face, condition, name) for condition in CONDITIONS)] for name, face in faces]
    page = np.concatenate([np.concatenate(column, axis=0) for column in tiles], axis=1)
    return np.asarray(cv2.resize(page, None, fx=SHEET_ZOOM, fy=SHEET_ZOOM, interpolation=cv2.INTER_NEAREST), np.uint8)


def write_sheet(root: Path, path: Path) -> None:
    """The first training faces of each expression in `root` as a PNG. Raises DataError for another suffix."""
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: a contact sheet is a PNG; name it {path.with_suffix('.png').name}")
    data = load_data(root)
    spec = InputSpec(size=SHEET_SIZE)
    records = [
        record
        for i in range(len(data.expressions))
        for record in [record for record in data.split("train") if record.expression == i][:SHEET_PEOPLE]
    ]
    faces = [(record.path.name, resize_face(read_image(record.path), spec)) for record in records]
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", sheet(faces))[1].tobytes())


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = Parser(
        prog="python -m benchmarks.confounded.condition_sheet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="the labelled faces")
    parser.add_argument("--sheet", type=Path, required=True, metavar="FILE", help="contact sheet to write (.png)")
    options = parser.parse_args(argv)
    refuse_conflicts({"--data": input_files(options.data)}, {"--sheet": options.sheet})
    write_sheet(options.data, options.sheet)
    print(f"wrote {options.sheet}")


if __name__ == "__main__":
    sys.exit(main())
