"""What a form of the network answers for a batch of faces, in float64 for comparing. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.session import Session

BATCH = 8


class ModelOutputs(NamedTuple):
    """What one form of the network answers for n faces, float64."""

    probabilities: NDArray[np.float64]
    """(n, E)."""
    logits: NDArray[np.float64]
    """(n, E)."""
    stratum_logits: NDArray[np.float64]
    """(n, N, E)."""


def answers_of_onnxruntime(model: Path | bytes, faces: NDArray[np.uint8]) -> ModelOutputs:
    """(n, S, S, 3) faces through an exported file, or its content, as the runtime does it on the CPU."""
    with OnnxSession(model, provider="cpu", max_batch=BATCH) as session:
        return answers_of_session(session, faces)


def answers_of_session(session: Session, faces: NDArray[np.uint8]) -> ModelOutputs:
    """(n, S, S, 3) faces through an open model."""
    answer = session(faces)
    outputs = (answer.probabilities, answer.logits, answer.stratum_logits)
    return ModelOutputs(*(output.astype(np.float64) for output in outputs))


def deviations(stratum_logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, N, E) -> what each stratum adds to the mean over the strata, of the same shape."""
    return stratum_logits - stratum_logits.mean(axis=1, keepdims=True)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def three_digits(value: Any) -> Any:
    """Every float in it to three digits: more would change with the number of threads."""
    if isinstance(value, Mapping):
        return {key: three_digits(item) for key, item in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value
