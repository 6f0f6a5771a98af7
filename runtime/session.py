"""An open model: one way to call it, the same for every backend."""

from __future__ import annotations

import abc
from dataclasses import dataclass, fields
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from iern.runtime.artifact import Artifact
from iern.runtime.errors import SessionError

MAX_BATCH = 16

SIZES = (1, 4, 16)
"""Batches that are prepared, as far as they are below the largest: each takes its own memory, and time at the start."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the network says about B faces. Rows are faces, in the order in which they were given."""

    probabilities: NDArray[np.float32]
    """(B, E), after the temperature; each row sums to 1."""
    logits: NDArray[np.float32]
    """(B, E), averaged over the strata, before the temperature."""
    stratum_logits: NDArray[np.float32]
    """(B, N, E), before the temperature."""


class Session(abc.ABC):
    """A model on a backend. A backend adds `_run`; checking, splitting and joining are the same for all."""

    def __init__(self, artifact: Artifact, provider: str, max_batch: int, note: str = "") -> None:
        """`provider` names where the model really runs; `max_batch` is the most faces that one `_run` gets."""
        if max_batch < 1:
            raise SessionError(f"expected a largest batch of at least 1, found {max_batch}")
        self.artifact = artifact
        self.provider = provider
        self.max_batch = max_batch
        self.note = note
        """Why it runs there and not where it was asked to; empty where it does."""

    def __call__(self, faces: NDArray[np.uint8]) -> Predictions:
        """(B, S, S, 3) uint8 BGR faces, any B from 0 -> the answer; more than `max_batch` go in several runs.

        Raises SessionError where the faces do not fit the model, or the backend fails.
        """
        self._check(faces)
        if len(faces) == 0:
            return self._nothing()
        parts = [self._run(faces[start : start + self.max_batch]) for start in range(0, len(faces), self.max_batch)]
        return parts[0] if len(parts) == 1 else joined(parts)

    @abc.abstractmethod
    def close(self) -> None:
        """Give the backend's memory back; the session cannot be called afterwards."""

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abc.abstractmethod
    def _run(self, faces: NDArray[np.uint8]) -> Predictions:
        """(b, S, S, 3) uint8, 1 <= b <= max_batch -> its answer."""

    def _check(self, faces: NDArray[np.uint8]) -> None:
        shape = self.artifact.input.shape
        if isinstance(faces, np.ndarray) and faces.dtype == np.uint8 and faces.ndim == 4 and faces.shape[1:] == shape:
            return
        found = f"{faces.shape} {faces.dtype}" if isinstance(faces, np.ndarray) else type(faces).__name__
        raise SessionError(
            f"expected faces of (batch, {', '.join(map(str, shape))}) uint8, found {found}; "
            "cut them with iern.runtime.imaging.preprocess.crop_faces"
        )

    def _nothing(self) -> Predictions:
        strata, expressions = len(self.artifact.strata), len(self.artifact.expressions)
        shapes = ((0, expressions), (0, expressions), (0, strata, expressions))
        return Predictions(*(np.empty(shape, np.float32) for shape in shapes))


def joined(parts: list[Predictions]) -> Predictions:
    """Answers for one face after another as one; at least one part."""
    return Predictions(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Predictions))
    )


def batch_sizes(largest: int) -> list[int]:
    """The sizes to prepare so that up to `largest` faces fit one of them."""
    return [*(size for size in SIZES if size < largest), largest]
