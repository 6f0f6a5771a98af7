"""A data set of cartoon faces: planned as a list of samples, then drawn into memory or written to files.

People are split, not pictures: no person is in two of `train`, `valid` and `test`; `ood` has the people of `test`.
Each drawing appears once under each stratum of its cells, as in the paper's toy experiment, in which one picture is
shown under each degradation.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from iern.runtime.errors import DataError
from iern.runtime.imaging.images import Image
from iern.runtime.system.files import write_errors
from iern.train.cartoons.faces import draw
from iern.train.cartoons.muscles import EXPRESSIONS
from iern.train.data.degrade import DEGRADATIONS, degrade
from iern.train.data.made_set import encoded, manifest, temporary_beside
from iern.train.data.manifest import MANIFEST
from iern.train.data.protocols import confounded

STRATA = ("noise", "blur", "clean")
"""Degradations. The confounded protocol pairs expressions with them in this order, which is the paper's."""
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)
MARKER = "cartoon.json"
"""File with the options of the set. A folder that has it may be replaced."""
VALID_SHARE = TEST_SHARE = 0.15
MAX_PEOPLE = 100_000


@dataclass(frozen=True)
class CartoonSample:
    """One picture of the set."""

    expression: str
    confounder: str
    split: str
    """`train`, `valid`, `test` (in distribution) or `ood` (out of distribution)."""
    identity: int
    """The seed of the person."""
    drawing: int
    """The seed of the picture of that person."""

    @property
    def subject(self) -> str:
        """The person's name in the manifest."""
        return f"person{self.identity:06d}"

    @property
    def path(self) -> str:
        """The path of the picture below the set's root, with forward slashes."""
        return f"{self.confounder}/{self.expression}/{self.subject}_{self.drawing:03d}.png"


def plan(
    identities: int = 400,
    per_cell: int = 1,
    seed: int = 0,
    expressions: Sequence[str] = EXPRESSIONS,
    strata: Sequence[str] = STRATA,
    seen: int | None = None,
) -> list[CartoonSample]:
    """-> the samples of `identities` people: `per_cell` pictures of each in each (expression, stratum) cell.

    70 % of the people are `train`, 15 % `valid`, 15 % `test`. With `seen` the set is confounded, see
    `protocols.confounded`: cells that training never sees are left out, except for the people of `test`, whose pictures
    in these cells are the split `ood`. Another `seed` gives other people. Raises DataError for impossible numbers or
    unknown names.
    """
    _check(identities, per_cell, seed, expressions, strata)
    cells = None if seen is None else confounded(expressions, strata, seen)
    samples = []
    for index, expression, drawing, stratum in itertools.product(
        range(identities), expressions, range(per_cell), strata
    ):
        split = _split(index, identities)
        if cells is not None and (expression, stratum) not in cells:
            if split != "test":
                continue
            split = "ood"
        samples.append(CartoonSample(expression, stratum, split, seed * MAX_PEOPLE + index, drawing))
    return samples


def render(samples: Iterable[CartoonSample], size: int = 64) -> Iterator[Image]:
    """-> each sample's (size, size, 3) uint8 BGR picture, in order. A picture depends only on its own sample."""
    # Neighbours in a plan are one drawing under several strata; it is drawn once.
    for (expression, identity, drawing), group in itertools.groupby(
        samples, key=lambda sample: (sample.expression, sample.identity, sample.drawing)
    ):
        face = draw(expression, identity, drawing, size)
        for sample in group:
            yield degrade(face, sample.confounder, _degradation_rng(sample))


def render_all(samples: Sequence[CartoonSample], size: int = 64) -> NDArray[np.uint8]:
    """-> (len(samples), size, size, 3) uint8 BGR: the whole set in memory."""
    images = np.empty((len(samples), size, size, 3), np.uint8)
    for row, image in zip(images, render(samples, size), strict=True):
        row[:] = image
    return images


def write(
    out: Path | str,
    samples: Sequence[CartoonSample],
    size: int = 64,
    made_with: dict[str, Any] | None = None,
    track: Callable[[Iterable[CartoonSample]], Iterable[CartoonSample]] = iter,
) -> None:
    """Write the pictures as PNG, the manifest, and `made_with` as the marker. The folder is replaced in one step.

    `track` may wrap the samples to show progress. Raises DataError, and changes nothing, if `out` has any other content
    than an earlier cartoon set. Raises OutputError if the set cannot be written.
    """
    out = Path(out).resolve()
    _check_replaceable(out)
    with write_errors(out, "; an older set is unchanged"):
        _replace(out, samples, size, made_with or {}, track)


def _replace(
    out: Path,
    samples: Sequence[CartoonSample],
    size: int,
    made_with: dict[str, Any],
    track: Callable[[Iterable[CartoonSample]], Iterable[CartoonSample]],
) -> None:
    """Write the set into a new folder beside `out`, and replace `out` by it."""
    with temporary_beside(out) as temporary:
        for folder in {Path(sample.path).parent for sample in samples}:
            (temporary / "new" / folder).mkdir(parents=True)
        for sample, image in zip(track(samples), render(samples, size), strict=True):
            (temporary / "new" / sample.path).write_bytes(encoded(image, ".png", PNG))
        (temporary / "new" / MANIFEST).write_text(manifest(samples), encoding="utf-8", newline="")
        marker = json.dumps(made_with, indent=2, ensure_ascii=False)
        (temporary / "new" / MARKER).write_text(marker + "\n", encoding="utf-8")
        if out.exists():
            os.replace(out, temporary / "old")
        os.replace(temporary / "new", out)


def _split(index: int, identities: int) -> str:
    valid, test = (max(1, round(share * identities)) for share in (VALID_SHARE, TEST_SHARE))
    if index < identities - valid - test:
        return "train"
    return "valid" if index < identities - test else "test"


def _degradation_rng(sample: CartoonSample) -> np.random.Generator:
    # The CRC of a name is the same in every process; Python's hash() of a string is not.
    names = [zlib.crc32(name.encode()) for name in (sample.expression, sample.confounder)]
    return np.random.default_rng([sample.identity, 3, sample.drawing, *names])


def _check(identities: int, per_cell: int, seed: int, expressions: Sequence[str], strata: Sequence[str]) -> None:
    if not 3 <= identities <= MAX_PEOPLE:
        raise DataError(f"{identities} identities: expected 3 (one for each split) to {MAX_PEOPLE}")
    if per_cell < 1:
        raise DataError(f"{per_cell} pictures per cell: expected at least 1")
    if seed < 0:
        raise DataError(f"seed {seed}: expected 0 or more")
    for kind, names, known in (("expression", expressions, EXPRESSIONS), ("stratum", strata, tuple(DEGRADATIONS))):
        if not names:
            raise DataError(f"no {kind} given; expected some of {', '.join(known)}")
        if len(set(names)) < len(names):
            raise DataError(f"a {kind} is given twice in {', '.join(names)}; give each once")
        for name in names:
            if name not in known:
                raise DataError(f"unknown {kind} {name!r}; expected some of {', '.join(known)}")


def _check_replaceable(out: Path) -> None:
    """Raise DataError unless `out` is missing, an empty folder, or a cartoon set without other files."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out} is a file; give a folder")
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    if not found:
        return
    if MARKER not in found or MANIFEST not in found:
        raise DataError(f"{out} holds files but no earlier cartoon set; give a new or empty folder")
    with open(out / MANIFEST, encoding="utf-8", newline="") as file:
        own = {row.get("path") for row in csv.DictReader(file)} | {MARKER, MANIFEST}
    if foreign := sorted(found - own):
        raise DataError(f"{out} holds {foreign[0]}, which is not part of the set; move it away or give another folder")
