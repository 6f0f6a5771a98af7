"""What an importer reads from a data set: its faces, with labels under the names of this project."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iern.runtime.errors import DataError

LeftOut = Counter[str]
"""Why faces were left out -> how many."""


@dataclass(frozen=True)
class SourceFace:
    """One labelled face of a data set."""

    path: Path
    """Its image in the data set or, if `content` is given, where that is written below the folder of the manifest."""
    expression: str
    split: str = "train"
    subject: str = ""
    """The person; empty if unknown."""
    votes: Mapping[str, int] = field(default_factory=dict)
    """Expression, or another answer of the annotators -> how many of them gave it."""
    content: bytes | None = None
    """The image as a file, if the data set has none of this face alone."""


@dataclass(frozen=True)
class DataSet:
    """A data set, and how its faces are read."""

    name: str
    """The word on the command line, and the confounder in the manifest."""
    title: str
    layout: str
    """The files that are read, one a line, for the help."""
    notes: str
    """What becomes of them, in whole sentences."""
    read: Callable[[Path, LeftOut], Iterator[SourceFace]]
    """Folder -> faces. It raises DataError if the layout is another one, and counts what it leaves out."""
    votes: tuple[str, ...] = ()
    """The columns of vote counts."""
    writes: bool = False
    """Whether images are written. The others stay where they are, and the manifest points to them."""


def find(root: Path, places: Sequence[str], title: str) -> Path:
    """The first of `places` below `root` that exists. Raises DataError, which says what is expected and found."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the one into which the archives of {title} were extracted")
    for place in places:
        if (root / place).exists():
            return root / place
    found = ", ".join(sorted(path.name for path in root.iterdir() if not path.name.startswith("."))[:8]) or "nothing"
    raise DataError(
        f"{root}: {title} as distributed has {' or '.join(places)} there; found {found}; give the folder into which "
        "its archives were extracted, with all of them"
    )


def lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The lines of a text file that are not empty: where each is, in words, and its fields. Raises DataError."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path} line {number}", line.split()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text ({error}); extract it again") from error


def named(where: str, code: str, names: Mapping[int, str]) -> str:
    """The expression of a data set's number, such as `3` or `3.0e+00`. Raises DataError for another one."""
    try:
        number = float(code)
    except ValueError:
        number = -1.0
    if number not in names:
        raise DataError(f"{where}: expected the number of an expression, {min(names)} to {max(names)}, found {code!r}")
    return names[int(number)]
