"""The outputs of a model for a batch of faces, in float64 for comparisons. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.session import Session

FACES_PER_BATCH = 8


class ModelOutputs(NamedTuple):
    """The outputs of one form of the network for n faces, float64."""

    probabilities: NDArray[np.float64]
    """(n, E)."""
    logits: NDArray[np.float64]
    """(n, E)."""
    stratum_logits: NDArray[np.float64]
    """(n, N, E)."""


def outputs_of_file(model: Path | bytes, faces: NDArray[np.uint8]) -> ModelOutputs:
    """(n, S, S, 3) faces through an exported file, or its content, as the runtime does it on the CPU."""
    with OnnxSession(model, provider="cpu", max_batch=FACES_PER_BATCH) as session:
        return outputs_of_session(session, faces)


def outputs_of_session(session: Session, faces: NDArray[np.uint8]) -> ModelOutputs:
    """(n, S, S, 3) faces through an open model."""
    predictions = session(faces)
    outputs = (predictions.probabilities, predictions.logits, predictions.stratum_logits)
    return ModelOutputs(*(output.astype(np.float64) for output in outputs))


def joined(batches: Iterable[ModelOutputs]) -> ModelOutputs:
    """The outputs of several batches -> those of all their faces."""
    return ModelOutputs(*map(np.concatenate, zip(*batches, strict=True)))


def deviations(stratum_logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, N, E) logits -> the difference of each stratum from the mean over the strata, of the same shape."""
    return stratum_logits - stratum_logits.mean(axis=1, keepdims=True)


def flips(reference: NDArray[np.float64], other: NDArray[np.float64], near_tie: float = 0.0) -> tuple[float, float]:
    """(n, E) scores twice -> the share of rows with the same first expression, and the widest flip.

    The widest flip is the largest lead, in the reference, of a first expression that is no longer the first; 0 if there
    is none. A row whose first expression changes from a lead below `near_tie` counts as the same.
    """
    first, now = reference.argmax(axis=1), other.argmax(axis=1)
    rows = np.arange(len(first))
    lead = reference[rows, first] - reference[rows, now]
    return float(np.mean((first == now) | (lead < near_tie))), float(lead.max())


def limits_table(rows: Sequence[tuple[str, str, str]]) -> str:
    """Figures with their names and limits -> lines for a terminal."""
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"{name:<{width}}  {value:>10}  {limit}" for name, value, limit in rows)


def three_digits(value: Any) -> Any:
    """The value with every float in it at three digits. More digits would change with the number of threads."""
    if isinstance(value, Mapping):
        return {key: three_digits(item) for key, item in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value
