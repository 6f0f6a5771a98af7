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
    """-> the manifest of samples that have the COLUMNS as attributes, CSV with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(sample, column) for column in COLUMNS] for sample in samples)
    return text.getvalue()


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
