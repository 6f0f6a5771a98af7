"""Checks sessions on a GPU: a replayed CUDA graph gives the bits of the single calls, and both agree with the CPU."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.results import Results
from iern.export.parity.gate_faces import drawn_faces
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.trt.session import TensorRtSession
from iern.runtime.bundled import MODEL
from iern.runtime.errors import EngineError
from iern.runtime.session import MAX_BATCH, Predictions, Session

LARGEST_BATCH = MAX_BATCH
MOST_FACES = 20
"""More than the largest batch, so that some calls take two runs."""
TOLERANCE = 3e-2
"""The largest difference of probabilities from onnxruntime on the CPU in FP32: TF32 and FP16 have 10 bits."""


def check_engine_replay(path: Path) -> Results:
    """Check an engine of the bundled model with 1 to MOST_FACES faces.

    Raises EngineError if no CUDA graph is recorded, or an output is wrong, and what the session raises.
    """
    with (
        TensorRtSession(path, LARGEST_BATCH) as recorded,
        TensorRtSession(path, LARGEST_BATCH, graph=False) as in_pieces,
        open_session(MODEL, "cpu") as reference,
    ):
        if recorded.note:
            raise EngineError(f"the session runs {recorded.note}")
        return compare_sessions(recorded, in_pieces, reference)


def check_onnxruntime_replay() -> Results:
    """Check the bundled model on onnxruntime's CUDA provider: each call twice, with 1 to MOST_FACES faces."""
    with (
        open_session(MODEL, "cuda", strict=True, max_batch=LARGEST_BATCH) as session,
        open_session(MODEL, "cpu") as reference,
    ):
        return compare_sessions(session, session, reference)


def compare_sessions(recorded: Session, in_pieces: Session, reference: Session, most: int = MOST_FACES) -> Results:
    """Give three sessions 1 to `most` drawn faces -> the largest difference from the last one.

    Raises EngineError if the first two give other bits, or a probability differs from the last one's by more than
    TOLERANCE.
    """
    faces = drawn_faces(reference.artifact.input.size, most)
    largest = 0.0
    for count in range(1, len(faces) + 1):
        found, expected = recorded(faces[:count]), reference(faces[:count])
        refuse_other_bits(found, in_pieces(faces[:count]), count)
        largest = max(largest, probability_error(found.probabilities, expected.probabilities))
    return {"counts": len(faces), "probability_error": largest}


def refuse_other_bits(found: Predictions, expected: Predictions, count: int) -> None:
    """Raise EngineError if an output of `count` faces does not have the same bits in both."""
    for field in fields(Predictions):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if not np.array_equal(one, other):
            difference = float(np.abs(one - other).max())
            raise EngineError(
                f"{count} faces: the replay's {field.name} differ from those of the single calls by {difference:.1e}"
            )


def probability_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference of probabilities. Raises EngineError if it is over TOLERANCE or not a number."""
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise EngineError(
            f"probabilities differ by {difference:.1e} from onnxruntime on the CPU, more than {TOLERANCE}: not timed"
        )
    return difference
