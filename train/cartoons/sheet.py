"""A contact sheet of cartoon faces, to look at: a column for each expression, a band of rows for each degradation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from iern.runtime.errors import DataError
from iern.runtime.imaging.images import Image
from iern.runtime.system.files import atomic_path
from iern.train.cartoons.data_set import MAX_PEOPLE, CartoonSample, render_all
from iern.train.cartoons.muscles import EXPRESSIONS

SIZE = 64
ZOOM = 2
PEOPLE = 4
HEADER, MARGIN = 24, 64


def write_sheet(path: Path | str, strata: Sequence[str], seed: int = 0) -> None:
    """Write a PNG: PEOPLE people with every expression under every stratum. Raises DataError for another suffix."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: a contact sheet is written as PNG; name it {path.with_suffix('.png').name}")
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", sheet(strata, seed))[1].tobytes())


def sheet(strata: Sequence[str], seed: int = 0) -> Image:
    """-> (H, W, 3) uint8 BGR: the faces, each pixel enlarged, under a line of names."""
    samples = [
        CartoonSample(expression, stratum, "train", seed * MAX_PEOPLE + person, 0)
        for stratum in strata
        for person in range(PEOPLE)
        for expression in EXPRESSIONS
    ]
    side = SIZE * ZOOM
    tiles = render_all(samples, SIZE).reshape(len(strata) * PEOPLE, len(EXPRESSIONS), SIZE, SIZE, 3)
    faces = np.concatenate(np.concatenate(tiles, axis=1), axis=1)
    page = np.full((HEADER + len(tiles) * side, MARGIN + len(EXPRESSIONS) * side, 3), 255, np.uint8)
    page[HEADER:, MARGIN:] = cv2.resize(faces, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_NEAREST)
    for column, expression in enumerate(EXPRESSIONS):
        _label(page, expression, MARGIN + column * side + 8, HEADER - 8)
    for band, stratum in enumerate(strata):
        _label(page, stratum, 8, HEADER + band * PEOPLE * side + 24)
    return page


def _label(page: Image, text: str, x: int, y: int) -> None:
    cv2.putText(page, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
