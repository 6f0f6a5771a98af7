"""Outputs for single images: annotated pictures, a still picture, and a printed line an image."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import cv2

from iern.runtime.errors import OutputError
from iern.runtime.faces.face import UNCERTAIN
from iern.runtime.imaging.images import Image
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.outputs.records import json_record
from iern.runtime.system.files import atomic_path, write_errors

WRITTEN_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""The formats in which pictures are annotated. Others become PNG: OpenCV writes no HEIC, and a GIF loses colours."""


def print_expressions(result: FrameResult) -> None:
    """A sink that prints the image's name, and each face's expression and probability, or `uncertain`, and its box.

    The box is that of the records, in whole pixels: [x, y, width, height].
    """
    boxes = [[round(value) for value in face["box"]] for face in json_record(result)["faces"]]
    expressions = ", ".join(
        f"{UNCERTAIN if face.uncertain else f'{face.expression} {face.probability:.2f}'} {box}"
        for face, box in zip(result.faces, boxes, strict=True)
    )
    print(f"{result.frame.name}: {expressions or 'no face'}", flush=True)


@contextlib.contextmanager
def still_picture(path: Path) -> Iterator[Sink]:
    """Write the annotated frame with the most faces; of several such frames, the last. Raises OutputError."""
    best: FrameResult | None = None

    def consider(result: FrameResult) -> None:
        nonlocal best
        if best is None or len(result.faces) >= len(best.faces):
            best = result

    yield consider
    if best is not None:
        _write(path, best.annotated)


def annotated_path(folder: Path, name: str) -> Path:
    """Where `annotated_pictures` writes the picture of that name. If OpenCV cannot write its format, as PNG."""
    suffix = Path(name).suffix.lower()
    return folder / (name if suffix in WRITTEN_SUFFIXES else f"{name}.png")


@contextlib.contextmanager
def annotated_pictures(folder: Path) -> Iterator[Sink]:
    """Write every annotated frame under its own name into the folder, which may not have a file of that name.

    Raises OutputError.
    """

    def write(result: FrameResult) -> None:
        path = annotated_path(folder, result.frame.name)
        if os.path.lexists(path):
            raise OutputError(f"{path}: exists, and is not replaced; choose a new or empty folder")
        _write(path, result.annotated)

    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)  # if it cannot be made, fail before the first picture
    yield write


def _write(path: Path, picture: Image) -> None:
    try:
        encoded, data = cv2.imencode(path.suffix, picture)
    except cv2.error:
        encoded = False
    if not encoded:
        raise OutputError(f"{path}: OpenCV cannot encode a picture of {picture.shape}; try .png")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())
