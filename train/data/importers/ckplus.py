"""CK+ (Lucey et al. 2010): sequences from a neutral face to the peak of a posed expression."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from iern.runtime.errors import DataError
from iern.train.data.importers.source import DataSet, LeftOut, SourceFace, find, lines, named
from iern.train.data.manifest import split_by_hash

TITLE = "CK+"
IMAGES = "cohn-kanade-images"
LABELS = "Emotion"
EXPRESSIONS = {
    1: "anger",
    2: "contempt",
    3: "disgust",
    4: "fear",
    5: "happiness",
    6: "sadness",
    7: "surprise",
}


def read(source: Path, left_out: LeftOut) -> Iterator[SourceFace]:
    """The peak of each labelled sequence, and the first frame of each person's first one as neutral."""
    images = find(source, (IMAGES, f"extended-cohn-kanade-images/{IMAGES}"), TITLE)
    folder = find(source, (LABELS, f"Emotion_labels/{LABELS}"), TITLE)
    labels = sorted(folder.glob("*/*/*_emotion.txt"))
    if not labels:
        raise DataError(f"{folder}: no labels; expected files such as S005/001/S005_001_00000011_emotion.txt")
    seen: set[str] = set()
    for label in labels:
        subject, sequence = label.parts[-3:-1]
        split = split_by_hash(subject)
        frames = images / subject / sequence
        if subject not in seen:
            seen.add(subject)
            first = min(frames.glob("*.png"), default=frames / f"{subject}_{sequence}_00000001.png")
            yield SourceFace(first, "neutral", split, subject)
        peak = frames / f"{label.name.removesuffix('_emotion.txt')}.png"
        yield SourceFace(peak, _expression(label), split, subject)
    unlabelled = len({path.parent for path in images.glob("*/*/*.png")}) - len(labels)
    left_out["sequences without a label"] += max(0, unlabelled)


def _expression(label: Path) -> str:
    """The expression in a file of one number, such as `   3.0000000e+00`."""
    found = [code for _, fields in lines(label) for code in fields]
    return named(str(label), " ".join(found), EXPRESSIONS)


CKPLUS = DataSet(
    "ckplus",
    TITLE,
    f"{IMAGES}/S005/001/S005_001_00000001.png\n{LABELS}/S005/001/S005_001_00000011_emotion.txt",
    "The peak of each labelled sequence, and one neutral frame of each person. A fifth of the people is the split "
    "test, by a hash of their names, since the data set has no splits. They are whole pictures: use evaluate.py "
    "--detect.",
    read,
)
