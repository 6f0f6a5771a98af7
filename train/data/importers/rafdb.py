"""RAF-DB, the basic expressions (Li et al. 2017): a list of labels, and aligned faces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from iern.runtime.errors import DataError
from iern.train.data.importers.source import DataSet, LeftOut, SourceFace, find, lines, named

TITLE = "RAF-DB (basic)"
LABELS = "EmoLabel/list_patition_label.txt"  # spelt as its authors did
EXPRESSIONS = {
    1: "surprise",
    2: "fear",
    3: "disgust",
    4: "happiness",
    5: "sadness",
    6: "anger",
    7: "neutral",
}


def read(source: Path, left_out: LeftOut) -> Iterator[SourceFace]:
    """The folder `basic` or the one above it -> its faces."""
    labels = find(source, (LABELS, f"basic/{LABELS}"), TITLE)
    folder = find(labels.parents[1], ("Image/aligned", "Image/original"), TITLE)
    ending = "_aligned" if folder.name == "aligned" else ""
    for where, fields in lines(labels):
        split = fields[0].partition("_")[0]
        if len(fields) != 2 or split not in ("train", "test"):
            raise DataError(f"{where}: expected a name and a label, such as `train_00001.jpg 5`, found {fields}")
        name = Path(fields[0])
        yield SourceFace(folder / f"{name.stem}{ending}{name.suffix}", named(where, fields[1], EXPRESSIONS), split)


RAFDB = DataSet(
    "rafdb",
    TITLE,
    f"{LABELS}\nImage/aligned/train_00001_aligned.jpg, or Image/original/train_00001.jpg",
    "Its own splits.",
    read,
)
