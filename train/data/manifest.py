"""Faces on disk -> (face, expression, confounder) samples: a manifest, or folders root/<confounder>/<expression>/."""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from iern.runtime.errors import DataError, ImageError
from iern.runtime.imaging.images import IMAGE_SUFFIXES, read_image

MANIFEST = "manifest.csv"
REQUIRED_COLUMNS = ("path", "expression", "confounder")
FOLDER_TEST_SHARE = 0.2
"""Without a manifest this share of the images, chosen by a hash of their paths, is the test split."""
NO_EXPRESSIONS = ("contempt", "unknown", "NF")
"""What the annotators of FER+ could vote for besides the seven expressions."""


@dataclass(frozen=True)
class LabelledFace:
    """One labelled face."""

    path: Path
    expression: int
    target: tuple[float, ...]
    """Distribution over the E expressions, sums to 1: the votes where there are any, else one-hot."""
    confounder: str
    split: str
    subject: str = ""
    confirmed: bool | None = None
    """Whether most voters are for its expression, see `_confirmed`; none where nobody voted."""


@dataclass(frozen=True)
class FaceData:
    """A data set; `strata` are the confounders of its training split, in alphabetical order."""

    root: Path
    expressions: tuple[str, ...]
    records: tuple[LabelledFace, ...]

    @property
    def strata(self) -> tuple[str, ...]:
        return tuple(sorted({record.confounder for record in self.records if record.split == "train"}))

    def split(self, name: str) -> list[LabelledFace]:
        """Records of a split; `all` is every one. Raises DataError where it is empty."""
        chosen = [record for record in self.records if name in (record.split, "all")]
        if not chosen:
            found = Counter(record.split for record in self.records)
            raise DataError(f"{self.root}: the split {name!r} has no images; found {dict(found)}")
        return chosen


def load_data(root: Path | str, expressions: Sequence[str] | None = None, votes: bool = True) -> FaceData:
    """Read `root/manifest.csv`, or the folders where there is none.

    `expressions`: the model's, in its order; none: those found, sorted. With `votes`, vote-count columns become soft
    targets: columns that are no expression of the model are dropped and the rest renormalised.
    Raises DataError, naming the file or line, for anything missing, malformed or unknown.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected {MANIFEST} or <confounder>/<expression>/ folders in it")
    manifest = root / MANIFEST
    rows = list(_manifest_rows(manifest) if manifest.is_file() else _folder_rows(root))
    if not rows:
        raise DataError(f"{root}: no images; expected {MANIFEST} or <confounder>/<expression>/<image> folders")
    names = tuple(expressions) if expressions else tuple(sorted({row["expression"] for _, row in rows}))
    records = tuple(_record(root, where, row, names, votes) for where, row in rows)
    absent = [record.path for record in records if not record.path.is_file()]
    if absent:
        raise DataError(f"{len(absent)} of {len(records)} images are missing, the first is {absent[0]}")
    return FaceData(root, names, records)


def cut_validation(data: FaceData, share: float, seed: int) -> tuple[list[LabelledFace], list[LabelledFace]]:
    """(training, validation) records: the manifest's own `valid` split, or else a share cut from `train`.

    Cut within each (expression, confounder) cell; a subject's images stay on one side, and each cell keeps a subject
    for training.
    """
    training = data.split("train")
    own = [record for record in data.records if record.split == "valid"]
    if own or share <= 0:
        return training, own
    names = [_group(record, data.root) for record in training]
    groups: dict[tuple[int, str], list[str]] = defaultdict(list)
    cells: dict[str, set[tuple[int, str]]] = defaultdict(set)
    for record, name in zip(training, names, strict=True):
        cell = record.expression, record.confounder
        groups[cell].append(name)
        cells[name].add(cell)
    left = Counter(cell for present in cells.values() for cell in present)
    held: set[str] = set()
    for _, members in sorted(groups.items()):
        # A subject held for an earlier cell counts towards this one, so that few subjects do not all end held.
        wanted = round(share * len(members)) - sum(member in held for member in members)
        for member in sorted(set(members) - held, key=lambda name: _hash(f"{seed}/{name}")):
            if wanted <= 0:
                break
            if any(left[cell] == 1 for cell in cells[member]):
                continue
            left.subtract(cells[member])
            held.add(member)
            wanted -= members.count(member)
    kept = [record for record, name in zip(training, names, strict=True) if name not in held]
    return kept, [record for record, name in zip(training, names, strict=True) if name in held]


def check_trainable(
    training: Sequence[LabelledFace], strata: Sequence[str], expressions: Sequence[str], root: Path
) -> None:
    """Raises DataError for one-stratum data, or a stratum or expression without a training image.

    `strata` are the data's own, none where training does not use them.
    """
    if len(strata) == 1:
        raise DataError(
            f"{root}: all training images have the confounder {strata[0]!r}, and there is nothing to adjust for with "
            "one stratum; label the images' origin or condition, or train with --strata conditions, or with "
            "--model.method baseline"
        )
    by_stratum = Counter(record.confounder for record in training)
    by_expression = Counter(record.expression for record in training)
    empty = [name for name in strata if not by_stratum[name]]
    empty += [name for i, name in enumerate(expressions) if not by_expression[i]]
    if empty:
        raise DataError(f"{root}: no training image of {', '.join(empty)}; add some or leave the name out")


def verify_images(records: Sequence[LabelledFace]) -> None:
    """Decode every image once, so that hours of training do not end at a corrupt one; raises DataError naming it."""

    def broken(record: LabelledFace) -> str | None:
        try:
            read_image(record.path)
        except ImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(4) as pool:
        found = [problem for problem in pool.map(broken, records, chunksize=64) if problem]
    if found:
        listed = "\n  ".join(found[:10])
        raise DataError(f"{len(found)} of {len(records)} images cannot be read; remove or mend them:\n  {listed}")


def _manifest_rows(manifest: Path) -> Iterator[tuple[str, dict[str, str]]]:
    with open(manifest, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            missing = [column for column in REQUIRED_COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{manifest}: no column {', '.join(missing)}; found {reader.fieldnames}")
            for row in reader:
                yield f"{manifest} line {reader.line_num}", row
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{manifest}: not a UTF-8 CSV file ({error})") from error


def _folder_rows(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for path in sorted(root.glob("*/*/**/*")):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            relative = path.relative_to(root)
            test = int(_hash(relative.as_posix())[:8], 16) < FOLDER_TEST_SHARE * 16**8
            row = {"path": relative.as_posix(), "confounder": relative.parts[0], "expression": relative.parts[1]}
            yield str(path), {**row, "split": "test" if test else "train"}


def _record(root: Path, where: str, row: dict[str, str], expressions: tuple[str, ...], votes: bool) -> LabelledFace:
    if None in row:  # csv's key for what stands beyond the last column, as a decimal comma makes it
        raise DataError(f"{where}: more fields than columns; write numbers with a decimal point, quote commas in names")
    if any(not row[column] for column in REQUIRED_COLUMNS):
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
        split=row.get("split") or "train",
        subject=row.get("subject") or "",
        confirmed=_confirmed(counts, row["expression"]),
    )


def _votes(where: str, row: dict[str, str], expressions: tuple[str, ...]) -> dict[str, float]:
    """The row's count of votes by what they are for, the model's expressions or none of them."""
    try:
        counts = {name: float(row.get(name) or 0) for name in (*expressions, *NO_EXPRESSIONS)}
    except ValueError as error:
        raise DataError(f"{where}: vote counts must be numbers with a decimal point ({error})") from error
    if not all(0 <= count < math.inf for count in counts.values()):
        raise DataError(f"{where}: vote counts must be finite and not negative, found {counts}")
    return counts


def _distribution(counts: dict[str, float], expressions: tuple[str, ...]) -> tuple[float, ...] | None:
    """The votes over the model's expressions, summing to 1; none where it has none for them."""
    total = sum(counts[name] for name in expressions)
    return tuple(counts[name] / total for name in expressions) if total > 0 else None


def _confirmed(counts: dict[str, float], expression: str) -> bool | None:
    """Whether more than half of the votes are for the expression, those that stand alone left out.

    The rule by which FER+ keeps a face ("majority", Barsoum et al. 2016), where its label is what most voted for.
    """
    if not any(counts.values()):
        return None
    shared = sum(count for count in counts.values() if count > 1)
    return counts[expression] > 1 and counts[expression] > shared / 2


def _group(record: LabelledFace, root: Path) -> str:
    """What must stay together, in a name that does not say where the data lies."""
    return f"subject {record.subject}" if record.subject else f"image {os.path.relpath(record.path, root)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
