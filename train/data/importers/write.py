"""The faces of a data set -> a folder with a manifest."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from iern.runtime.errors import DataError
from iern.runtime.system.files import write_errors, write_text
from iern.train.data.importers.affectnet import AFFECTNET
from iern.train.data.importers.ckplus import CKPLUS
from iern.train.data.importers.expw import EXPW
from iern.train.data.importers.ferplus import FERPLUS
from iern.train.data.importers.rafdb import RAFDB
from iern.train.data.importers.source import DataSet, LeftOut, SourceFace
from iern.train.data.made_set import COLUMNS, csv_text, refuse_content, temporary_beside
from iern.train.data.manifest import MANIFEST

DATA_SETS = {each.name: each for each in (AFFECTNET, CKPLUS, EXPW, FERPLUS, RAFDB)}
RARE = "contempt"
"""An expression that few data sets have."""

Track = Callable[[Iterable[SourceFace]], Iterable[SourceFace]]
"""May wrap the faces to show progress."""


@dataclass
class Imported:
    """What became of a data set."""

    faces: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(expression, split) -> number of faces."""
    left_out: LeftOut = field(default_factory=Counter)


def import_faces(
    data_set: DataSet,
    source: Path,
    out: Path,
    confounder: str = "",
    contempt: bool = False,
    skip_missing: bool = False,
    track: Track = iter,
) -> Imported:
    """Write `out/manifest.csv` for a data set in the folder `source`, and its images if they are not files yet.

    `confounder`: the value for all of its faces, by default its name. Faces of contempt are left out unless `contempt`.

    Raises DataError, and writes nothing, if `source` has another layout, if images are absent and not `skip_missing`,
    or if `out` has a manifest already. Raises OutputError if something cannot be written.
    """
    source, out = source.resolve(), out.resolve()
    _refuse_content(out, data_set.writes)
    found = Imported()
    faces = _chosen(track(data_set.read(source, found.left_out)), found.left_out, contempt)
    if data_set.writes:
        with write_errors(out), temporary_beside(out) as temporary:
            kept = _present(faces, source, skip_missing, found.left_out, temporary / "new")
            _write_manifest(kept, temporary / "new", data_set, confounder)
            os.replace(temporary / "new", out)
    else:
        kept = _present(faces, source, skip_missing, found.left_out, out)
        out.mkdir(parents=True, exist_ok=True)
        _write_manifest(kept, out, data_set, confounder)
    found.faces.update((face.expression, face.split) for face in kept)
    return found


def _refuse_content(out: Path, writes: bool) -> None:
    """Raise DataError if something in the folder would be replaced."""
    if (out / MANIFEST).exists():
        raise DataError(f"{out / MANIFEST} exists; give another folder, or remove it")
    if writes or not out.is_dir():
        refuse_content(out)


def _chosen(faces: Iterable[SourceFace], left_out: LeftOut, contempt: bool) -> Iterable[SourceFace]:
    for face in faces:
        if face.expression == RARE and not contempt:
            left_out[f"{RARE}, kept with --contempt"] += 1
        else:
            yield face


def _present(
    faces: Iterable[SourceFace], source: Path, skip_missing: bool, left_out: LeftOut, out: Path
) -> list[SourceFace]:
    """The faces whose images exist, each image once; images that are no files yet are written below `out`.

    Raises DataError if there is none, or if images are absent.
    """
    kept: dict[Path, SourceFace] = {}
    doubtful: set[Path] = set()
    absent: list[Path] = []
    for face in faces:
        earlier = kept.setdefault(face.path, face)
        if earlier is not face:
            left_out["listed twice"] += 1
            if (earlier.expression, earlier.split) != (face.expression, face.split):
                doubtful.add(face.path)
        elif face.content is not None:
            (out / face.path).parent.mkdir(parents=True, exist_ok=True)
            (out / face.path).write_bytes(face.content)
            kept[face.path] = dataclasses.replace(face, content=None)  # the images would fill the memory
        elif not face.path.is_file():
            absent.append(face.path)
    if absent and not skip_missing:
        raise DataError(
            f"{source}: {len(absent)} of {len(kept)} images in its lists are missing, the first is {absent[0]}; "
            "extract all of its archives, or leave them out with --skip-missing"
        )
    left_out["missing"] += len(absent)
    left_out["listed with two labels"] += len(doubtful)
    for path in doubtful:
        if not path.is_absolute():  # it was written here
            (out / path).unlink()
    out_of_it = {*absent, *doubtful}
    found = [face for path, face in kept.items() if path not in out_of_it]
    if not found:
        raise DataError(f"{source}: no labelled images; extract all of its archives")
    return found


def _write_manifest(faces: Iterable[SourceFace], out: Path, data_set: DataSet, confounder: str) -> None:
    rows = (
        [
            *(_relative(face.path, out), face.expression, confounder or data_set.name, face.split, face.subject),
            *(face.votes[column] for column in data_set.votes),
        ]
        for face in faces
    )
    write_text(out / MANIFEST, csv_text((*COLUMNS, *data_set.votes), rows))


def _relative(path: Path, out: Path) -> str:
    """The path as the manifest has it: relative if the image is in its folder, else whole."""
    return (path.relative_to(out) if path.is_relative_to(out) else path).as_posix()
