"""The session protocol: one way to call an open model, the same for every backend."""

from __future__ import annotations

import abc
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from iern.runtime.artifact import Artifact
from iern.runtime.errors import SessionError

MAX_BATCH = 16

BATCH_SIZES = (1, 2, 4, 8, 16)
"""Batch sizes that are prepared below the largest one, so that five faces do not cost as much as sixteen. Each takes
memory, and time when the session opens."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """The network's output for B faces. Rows are faces, in the order in which the caller gave them."""

    probabilities: NDArray[np.float32]
    """(B, E), after the temperature; each row sums to 1."""
    logits: NDArray[np.float32]
    """(B, E), averaged over the strata, before the temperature."""
    stratum_logits: NDArray[np.float32]
    """(B, N, E), before the temperature."""


class Session(abc.ABC):
    """An open model on a backend: `session(faces)` -> Predictions. Threads may share it: one call runs at a time.

    A backend implements `_run` and `_free`. This class checks the faces, splits large batches and joins the results.
    """

    def __init__(self, artifact: Artifact, provider: str, max_batch: int, note: str = "") -> None:
        """`provider` names where the model really runs. `max_batch` is the largest number of faces in one `_run`."""
        if max_batch < 1:
            raise SessionError(f"expected a largest batch of at least 1, found {max_batch}")
        self.artifact = artifact
        self.provider = provider
        self.max_batch = max_batch
        self.note = note
        """Why the model does not run on the requested provider, or runs slower there. Empty if neither."""
        self.precision_note = ""
        """Whether the float32 file or the 8-bit file runs, and why. Empty if nobody chose between them."""
        self.closed = False
        self._lock = threading.Lock()

    def __reduce__(self) -> NoReturn:
        raise SessionError(
            "an open model cannot be pickled or copied; call open_session in each process, or pickle an "
            "ExpressionRecognizer, which opens its model again"
        )

    def __call__(self, faces: NDArray[np.uint8]) -> Predictions:
        """(B, S, S, 3) uint8 BGR faces, any B from 0 -> Predictions. More than `max_batch` faces take several runs.

        Raises SessionError if the faces do not fit the model, the backend fails, or the session is closed.
        """
        self._check(faces)
        starts = range(0, len(faces), self.max_batch)
        with self._lock:
            if self.closed:
                raise SessionError("the session is closed; open the model again")
            parts = [self._run(faces[start : start + self.max_batch]) for start in starts]
        if not parts:
            return self._no_predictions()
        return parts[0] if len(parts) == 1 else concatenate(parts)

    def close(self) -> None:
        """Free the backend's memory, after a running call. The session cannot be called afterwards."""
        with self._lock:
            if not self.closed:
                self.closed = True
                self._free()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abc.abstractmethod
    def _run(self, faces: NDArray[np.uint8]) -> Predictions:
        """(b, S, S, 3) uint8, 1 <= b <= max_batch -> Predictions."""

    @abc.abstractmethod
    def _free(self) -> None:
        """Free the backend's memory. It is called once, and `_run` never after it."""

    def _check(self, faces: NDArray[np.uint8]) -> None:
        shape = self.artifact.input.shape
        if isinstance(faces, np.ndarray) and faces.dtype == np.uint8 and faces.ndim == 4 and faces.shape[1:] == shape:
            return
        found = f"{faces.shape} {faces.dtype}" if isinstance(faces, np.ndarray) else type(faces).__name__
        raise SessionError(
            f"expected faces of (batch, {', '.join(map(str, shape))}) uint8, found {found}; "
            "cut them with iern.runtime.imaging.preprocess.crop_faces"
        )

    def _no_predictions(self) -> Predictions:
        strata, expressions = len(self.artifact.strata), len(self.artifact.expressions)
        shapes = ((0, expressions), (0, expressions), (0, strata, expressions))
        return Predictions(*(np.empty(shape, np.float32) for shape in shapes))


def concatenate(parts: list[Predictions]) -> Predictions:
    """Join the predictions of successive batches, at least one, into one."""
    return Predictions(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Predictions))
    )


def split(predictions: Predictions, counts: Sequence[int]) -> Iterator[Predictions]:
    """Split the rows into parts, one after another, of so many rows each."""
    first = 0
    for count in counts:
        rows = slice(first, first + count)
        yield Predictions(*(getattr(predictions, field.name)[rows] for field in fields(Predictions)))
        first += count


def batch_sizes(largest: int) -> list[int]:
    """Return the batch sizes to prepare, ascending. The last one is `largest`, so up to `largest` faces always fit."""
    return [*(size for size in BATCH_SIZES if size < largest), largest]
