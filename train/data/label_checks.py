"""Labels that would be misread without a word: splits as strata, one name spelt twice, one file listed twice."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from iern.runtime.errors import DataError

if TYPE_CHECKING:
    from iern.train.data.manifest import LabelledFace

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
    "ood": "ood",  # faces unlike those of training, in the drawn set
}
"""The names of splits that data sets use -> the name here."""
SYSTEM_NAMES = {
    "@eadir", "#recycle", "$recycle.bin", "__macosx", "desktop.ini", "lost+found", "system volume information",
    "thumbs.db",
}  # fmt: skip
"""Files and folders that systems leave among pictures, in lower case; they do not begin with a dot."""


def is_hidden(relative: PurePath) -> bool:
    """Whether a path below the root belongs to a system or editor, not to the data."""
    return any(part.startswith(".") or part.casefold() in SYSTEM_NAMES for part in relative.parts)


def split_name(where: str, found: str) -> str:
    """The split that a field names, as in SPLITS; empty: `train`. Raises DataError for other words."""
    name = found.strip().casefold() or "train"
    if name not in SPLITS:
        raise DataError(f"{where}: unknown split {found!r}; known are {', '.join(SPLITS)}")
    return SPLITS[name]


def refuse_splits_as_strata(root: Path, confounders: Iterable[str], manifest: bool) -> None:
    """Raise DataError if a confounder is the name of a split: its test faces would be trained on."""
    wrong = sorted({name for name in confounders if name.strip().casefold() in SPLITS})
    if not wrong:
        return
    columns = "with the columns path,expression,confounder,split"
    if manifest:
        raise DataError(
            f"{root}: the confounder {', '.join(wrong)} is the name of a split; write the origin or condition of the "
            f"image there, and the split in a column of its own, in a manifest.csv {columns}"
        )
    raise DataError(
        f"{root}: the top folder {', '.join(wrong)} is the name of a split, but a top folder is a confounder; expected "
        f"<confounder>/<expression>/<image>, such as web/happy/1.jpg, or a manifest.csv {columns}"
    )


def refuse_two_spellings(root: Path, kind: str, names: Iterable[str]) -> None:
    """Raise DataError if two names of a kind differ in capitals and outer blanks only."""
    spellings = defaultdict(set)
    for name in names:
        spellings[name.strip().casefold()].add(name)
    several = [" and ".join(map(repr, sorted(same))) for same in spellings.values() if len(same) > 1]
    if several:
        raise DataError(f"{root}: one {kind} has several names: {'; '.join(several)}; spell it in one way")


def without_repetitions(faces: Sequence[LabelledFace], places: Sequence[str]) -> tuple[LabelledFace, ...]:
    """The faces without exact repetitions; `places` are their rows in words.

    Raises DataError if one file has two splits or two labels.
    """
    first: dict[str, tuple[LabelledFace, str]] = {}
    for face, place in zip(faces, places, strict=True):
        earlier, earlier_place = first.setdefault(os.path.normpath(face.path), (face, place))
        differing = [name for name in _LABELS if getattr(earlier, name) != getattr(face, name)]
        if differing:
            what = " and ".join(dict.fromkeys(_LABELS[name] for name in differing))
            raise DataError(
                f"{place}: {face.path} is listed already ({earlier_place}) with other {what}; "
                "keep one row for each file"
            )
    return tuple(face for face, _ in first.values())


_LABELS = {
    "split": "split",
    "expression": "expression",
    "confounder": "confounder",
    "subject": "subject",
    "target": "votes",
    "confirmed": "votes",
}
"""The fields of a face that belong to its file -> their names in a message."""
