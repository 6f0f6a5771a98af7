"""Where the answers go besides a window: opening what was asked for, a still picture, and words for single images.

Each output is a context manager that yields a sink, a function called with every view. `file_outputs` opens those
that the options ask for, each behind a thread and a queue of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2

from iern.runtime.errors import OutputError
from iern.runtime.faces.face import UNCERTAIN
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.system.files import atomic_path


def print_answers(view: FrameResult) -> None:
    """The sink for single images: a line with the name, and of each face expression and probability, or `uncertain`."""
    answers = ", ".join(
        UNCERTAIN if face.uncertain else f"{face.expression} {face.probability:.2f}" for face in view.faces
    )
    print(f"{view.frame.name}: {answers or 'no face'}", flush=True)


@contextlib.contextmanager
def still(path: Path) -> Iterator[Sink]:
    """A picture of the frame with the most faces, the last one of several such."""
    best: FrameResult | None = None

    def consider(view: FrameResult) -> None:
        nonlocal best
        if best is None or len(view.faces) >= len(best.faces):
            best = view

    yield consider
    if best is not None:
        encoded, data = cv2.imencode(path.suffix, best.annotated)
        if not encoded:
            raise OutputError(f"{path}: OpenCV cannot encode a picture of {best.annotated.shape}; try .png")
        with atomic_path(path) as temporary:
            temporary.write_bytes(data.tobytes())
