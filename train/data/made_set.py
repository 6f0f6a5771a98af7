"""A data set that a command makes: its manifest, its images, and a folder that appears when it is complete."""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2

from iern.runtime.errors import DataError
from iern.runtime.imaging.images import Image

COLUMNS = ("path", "expression", "confounder", "split", "subject")


def manifest(samples: Iterable[object]) -> str:
    """-> the manifest of samples that have the COLUMNS as attributes."""
    return csv_text(COLUMNS, ([getattr(sample, column) for column in COLUMNS] for sample in samples))


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """-> CSV with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def refuse_content(out: Path) -> None:
    """Raise DataError unless `out` is missing or an empty folder."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; give a folder")
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out} holds files already; give a new or empty folder, or remove this one")


def encoded(image: Image, suffix: str, parameters: Sequence[int]) -> bytes:
    """(H, W, 3) uint8 BGR -> a file of OpenCV's format `suffix`. Raises DataError."""
    done, data = cv2.imencode(suffix, image, parameters)
    if not done:
        raise DataError(f"OpenCV cannot encode a {suffix} of {image.shape}; reinstall opencv-python-headless")
    return data.tobytes()


@contextlib.contextmanager
def temporary_beside(out: Path) -> Iterator[Path]:
    """A folder beside `out`, to write a set in before it replaces `out`. It is removed when the block ends."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary)
