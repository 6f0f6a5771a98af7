"""Labelled faces on disk: a manifest, or folders root/<confounder>/<expression>/."""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from iern.runtime.errors import DataError, ImageError
from iern.runtime.imaging.formats import is_image_file
from iern.runtime.imaging.images import describe_damage, load_image
from iern.runtime.system.latency import counted
from iern.train.data.label_checks import (
    is_hidden,
    refuse_splits_as_strata,
    refuse_two_spellings,
    split_name,
    without_repetitions,
)
from iern.train.data.manifest_rows import REQUIRED_COLUMNS, Row, manifest_rows, refuse_vote_columns

MANIFEST = "manifest.csv"
FOLDER_TEST_SHARE = 0.2
"""Share of the images that are the test split if there is no manifest; a hash of the path decides."""
NO_EXPRESSIONS = ("contempt", "unknown", "NF")
"""What the annotators of FER+ could vote for besides the seven expressions."""


@dataclass(frozen=True)
class LabelledFace:
    """An image file of one face, and its labels."""

    path: Path
    expression: int
    """Index of the expression."""
    target: tuple[float, ...]
    """Distribution over the E expressions: the votes if there are any, else one-hot."""
    confounder: str
    split: str
    """`train`, `valid`, `test`, or `ood` in the drawn set."""
    subject: str = ""
    """The person; empty if unknown."""
    confirmed: bool | None = None
    """Whether most votes are for its expression (see `_confirmed`); None without votes."""


@dataclass(frozen=True)
class FaceData:
    """The labelled faces of a data set."""

    root: Path
    expressions: tuple[str, ...]
    records: tuple[LabelledFace, ...]

    @property
    def strata(self) -> tuple[str, ...]:
        """The confounders of the training split, sorted."""
        return tuple(sorted({face.confounder for face in self.records if face.split == "train"}))

    def split(self, name: str) -> list[LabelledFace]:
        """The faces of a split, or of `all`. Raises DataError if there are none."""
        faces = [face for face in self.records if name in (face.split, "all")]
        if not faces:
            found = Counter(face.split for face in self.records)
            raise DataError(f"{self.root}: the split {name!r} has no images; found {dict(found)}")
        return faces


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def load_data(
    root: Path | str,
    expressions: Sequence[str] | None = None,
    votes: bool = True,
    report: Callable[[str], None] = _to_stderr,
) -> FaceData:
    """Read `root/manifest.csv`, or the folders if there is none.

    `expressions` are those of the network, in its order; None: those in the data, sorted. With `votes`, columns of vote
    counts become soft targets; votes for other expressions are dropped. A row that is there twice is used once;
    `report` takes a line with the number of such rows, and one with the number of files in the folders that are not
    used.
    Raises DataError, which names the file or line, if something is missing, malformed, contradictory or unknown.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected {MANIFEST} or <confounder>/<expression>/ folders in it")
    manifest = root / MANIFEST
    rows = list(manifest_rows(manifest) if manifest.is_file() else _folder_rows(root))
    if not manifest.is_file():
        _report_left_out(root, report)
    if not rows:
        raise DataError(f"{root}: no images; expected {MANIFEST} or <confounder>/<expression>/<image> folders")
    _refuse_names(root, rows, manifest.is_file())
    names = tuple(expressions) if expressions else tuple(sorted({row["expression"] for _, row in rows}))
    if votes:
        refuse_vote_columns(manifest, list(rows[0][1]), names)
    listed = [_labelled_face(root, where, row, names, votes) for where, row in rows]
    faces = without_repetitions(listed, [where for where, _ in rows])
    if len(faces) < len(listed):
        report(f"{manifest}: {len(listed) - len(faces)} rows repeat an earlier one, and are left out")
    absent = [face.path for face in faces if not face.path.is_file()]
    if absent:
        raise DataError(f"{len(absent)} of {len(faces)} images are missing, the first is {absent[0]}")
    return FaceData(root, names, faces)


def input_files(root: Path) -> Iterator[Path]:
    """The manifest and the images of a data set, for a check that no output replaces one. None without the folder."""
    manifest = root / MANIFEST
    if manifest.is_file():
        yield manifest
    if root.is_dir():
        for _, row in manifest_rows(manifest) if manifest.is_file() else _folder_rows(root):
            yield root / (row["path"] or "")


def cut_validation(data: FaceData, share: float, seed: int) -> tuple[list[LabelledFace], list[LabelledFace]]:
    """(training, validation) faces: the `valid` split of the manifest, or else a share cut from `train`.

    The share is cut from each (expression, confounder) cell. All images of a subject stay together, and each cell keeps
    a subject for training.
    """
    training = data.split("train")
    own = [face for face in data.records if face.split == "valid"]
    if own or share <= 0:
        return training, own
    names = [_group(face, data.root) for face in training]
    groups: dict[tuple[int, str], list[str]] = defaultdict(list)
    cells: dict[str, set[tuple[int, str]]] = defaultdict(set)
    for face, name in zip(training, names, strict=True):
        cell = face.expression, face.confounder
        groups[cell].append(name)
        cells[name].add(cell)
    left = Counter(cell for present in cells.values() for cell in present)
    held: set[str] = set()
    for _, members in sorted(groups.items()):
        # A subject held out for an earlier cell counts for this one too; else a few subjects would all be held out.
        wanted = round(share * len(members)) - sum(member in held for member in members)
        for member in sorted(set(members) - held, key=lambda name: text_hash(f"{seed}/{name}")):
            if wanted <= 0:
                break
            if any(left[cell] == 1 for cell in cells[member]):
                continue
            left.subtract(cells[member])
            held.add(member)
            wanted -= members.count(member)
    kept = [face for face, name in zip(training, names, strict=True) if name not in held]
    return kept, [face for face, name in zip(training, names, strict=True) if name in held]


def check_trainable(
    training: Sequence[LabelledFace], strata: Sequence[str], expressions: Sequence[str], root: Path
) -> None:
    """Raise DataError if there is one stratum only, or a stratum or expression without a training image.

    `strata` are those of the data; empty if training does not use them.
    """
    if len(strata) == 1:
        raise DataError(
            f"{root}: all training images have the confounder {strata[0]!r}, and one stratum leaves nothing to adjust "
            "for; label the images with their origin or condition, or train with --strata conditions, or with "
            "--model.method baseline"
        )
    by_stratum = Counter(face.confounder for face in training)
    by_expression = Counter(face.expression for face in training)
    empty = [name for name in strata if not by_stratum[name]]
    empty += [name for i, name in enumerate(expressions) if not by_expression[i]]
    if empty:
        raise DataError(f"{root}: no training image of {', '.join(empty)}; add some, or leave the name out")


def verify_images(faces: Sequence[LabelledFace]) -> None:
    """Read every image once, before hours of training. Raises DataError, which names the broken and damaged ones."""

    def broken(face: LabelledFace) -> str | None:
        try:
            file = load_image(face.path)
        except ImageError as error:
            return str(error)
        return f"{face.path}: {describe_damage(file)}" if file.damage else None

    with ThreadPoolExecutor(4) as pool:
        found = [problem for problem in pool.map(broken, faces, chunksize=64) if problem]
    if found:
        listed = "\n  ".join(found[:10])
        raise DataError(
            f"{len(found)} of {len(faces)} images cannot be read or are damaged; remove or replace them:\n  {listed}"
        )


def _refuse_names(root: Path, rows: Sequence[Row], manifest: bool) -> None:
    """Raise DataError if names of the data would be misread."""
    refuse_splits_as_strata(root, (row["confounder"] for _, row in rows), manifest)
    for kind in ("expression", "confounder"):
        refuse_two_spellings(root, kind, (row[kind] for _, row in rows))


def _folder_rows(root: Path) -> Iterator[Row]:
    for path in _folder_files(root, "*/*/**/*"):
        if is_image_file(path):
            relative = path.relative_to(root)
            row = {"path": relative.as_posix(), "confounder": relative.parts[0], "expression": relative.parts[1]}
            yield str(path), {**row, "split": split_by_hash(relative.as_posix())}


def _folder_files(root: Path, pattern: str) -> list[Path]:
    """The files of a pattern, sorted, without folders and what systems leave among pictures."""
    found = (path for path in root.glob(pattern) if not is_hidden(path.relative_to(root)))
    return sorted(path for path in found if not path.is_dir())


def _report_left_out(root: Path, report: Callable[[str], None]) -> None:
    """Report files in the folders that are no images, and images that are in no folder of an expression."""
    others = [path for path in _folder_files(root, "*/*/**/*") if not is_image_file(path)]
    outside = [path for pattern in ("*", "*/*") for path in _folder_files(root, pattern) if is_image_file(path)]
    if others:
        report(f"{root}: left out {counted(len(others), 'file')} that are no images, the first is {others[0]}")
    if outside:
        report(
            f"{root}: left out {counted(len(outside), 'image')} outside of <confounder>/<expression>/, the first is "
            f"{outside[0]}"
        )


def _labelled_face(
    root: Path, where: str, row: dict[str, str], expressions: tuple[str, ...], votes: bool
) -> LabelledFace:
    if any(not row[column].strip() for column in REQUIRED_COLUMNS):
        raise DataError(f"{where}: path, expression and confounder must not be empty, found {row}")
    if row["expression"] not in expressions:
        raise DataError(
            f"{where}: {row['path']} has the expression {row['expression']!r}, the model knows {', '.join(expressions)}"
        )
    expression = expressions.index(row["expression"])
    counts = _votes(where, row if votes else {}, expressions)
    target = _distribution(counts, expressions)
    one_hot = tuple(float(i == expression) for i in range(len(expressions)))
    return LabelledFace(
        path=root / row["path"],
        expression=expression,
        target=target or one_hot,
        confounder=row["confounder"],
        split=split_name(where, row.get("split", "")),
        subject=row.get("subject") or "",
        confirmed=_confirmed(counts, row["expression"]),
    )


def _votes(where: str, row: dict[str, str], expressions: tuple[str, ...]) -> dict[str, float]:
    """The vote counts of a row, for the expressions of the network and for NO_EXPRESSIONS."""
    try:
        counts = {name: float(row.get(name) or 0) for name in (*expressions, *NO_EXPRESSIONS)}
    except ValueError as error:
        raise DataError(f"{where}: vote counts must be numbers with a decimal point ({error})") from error
    if not all(0 <= count < math.inf for count in counts.values()):
        raise DataError(f"{where}: vote counts must be finite and not negative, found {counts}")
    return counts


def _distribution(counts: dict[str, float], expressions: tuple[str, ...]) -> tuple[float, ...] | None:
    """The votes for the network's expressions as shares; None if there are none."""
    total = sum(counts[name] for name in expressions)
    return tuple(counts[name] / total for name in expressions) if total > 0 else None


def _confirmed(counts: dict[str, float], expression: str) -> bool | None:
    """Whether more than half of the votes are for the expression, without single votes; None without votes.

    FER+ keeps a face by this rule ("majority", Barsoum et al. 2016).
    """
    if not any(counts.values()):
        return None
    shared = sum(count for count in counts.values() if count > 1)
    return counts[expression] > 1 and counts[expression] > shared / 2


def _group(face: LabelledFace, root: Path) -> str:
    """The name of the images that must stay together; it does not depend on the place of the data."""
    return f"subject {face.subject}" if face.subject else f"image {os.path.relpath(face.path, root)}"


def split_by_hash(name: str) -> str:
    """-> `test` for FOLDER_TEST_SHARE of all names, chosen by their hashes, else `train`."""
    return "test" if int(text_hash(name)[:8], 16) < FOLDER_TEST_SHARE * 16**8 else "train"


def text_hash(text: str) -> str:
    """-> SHA-256 in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()
