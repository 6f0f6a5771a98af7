"""A contact sheet of the conditions that training can put a face under: `--data ROOT --sheet FILE.png`.

They are the confounders that `benchmarks.confounded` pairs with expressions; train/data/conditions.py describes each.
On it a person can check that the expression is still visible.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from iern.runtime.errors import DataError, IernError, report
from iern.runtime.imaging.images import Image, read_image
from iern.runtime.imaging.preprocess import InputSpec, resize_face
from iern.runtime.system.files import atomic_path
from iern.train.data import conditions
from iern.train.data.conditions import CONDITIONS
from iern.train.data.manifest import load_data

SHEET_SIZE, SHEET_ZOOM, SHEET_PEOPLE = 64, 2, 3


def put_under(face: Image, condition: str, name: str) -> Image:
    """(S, S, 3) uint8 -> the face under a condition; `name` is the face's, and alone chooses strength and noise."""
    # CRC is the same in every process; Python's hash() of a string is not.
    return conditions.put_under(
        face, condition, np.random.default_rng([zlib.crc32(name.encode()), zlib.crc32(condition.encode())])
    )


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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.confounded.condition_sheet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
