"""Outputs for single images: a still picture, and a printed line an image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2

from iern.runtime.errors import OutputError
from iern.runtime.faces.face import UNCERTAIN
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.system.files import atomic_path


def print_expressions(result: FrameResult) -> None:
    """A sink that prints the image's name, and each face's expression and probability, or `uncertain`."""
    expressions = ", ".join(
        UNCERTAIN if face.uncertain else f"{face.expression} {face.probability:.2f}" for face in result.faces
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
        encoded, data = cv2.imencode(path.suffix, best.annotated)
        if not encoded:
            raise OutputError(f"{path}: OpenCV cannot encode a picture of {best.annotated.shape}; try .png")
        with atomic_path(path) as temporary:
            temporary.write_bytes(data.tobytes())
