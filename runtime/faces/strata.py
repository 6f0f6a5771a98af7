"""Predictions over time from two files of one model: the strata collapsed in most frames, all of them now and then.

A file with collapsed strata gives the same answer for less (`iern.export.graph.collapse`), but not how far the strata
disagree. The differences of the strata from their mean change slowly with a face, so they are kept for each track.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from iern.runtime.intervention import average_over_strata
from iern.runtime.session import Predictions, Session

FULL_EVERY = 1.0
"""Seconds after which all strata are computed again."""


class StratumPredictor:
    """`predict(crops, ids, seconds)` -> Predictions of all N strata. Use one predictor per source and thread.

    The model with all strata runs when a track is new, and when FULL_EVERY has passed by the source's clock. In between
    the collapsed one runs, and the last differences of each track are added to its logits.
    """

    def __init__(self, session: Session, collapsed: Session | None = None) -> None:
        """`session` has all strata, `collapsed` one: see `open_collapsed`. Without it `session` runs in each frame."""
        self._session, self._collapsed = session, collapsed
        self._differences: dict[int, NDArray[np.float64]] = {}
        """Track -> (N, E), the logits of the strata minus their mean."""
        self._last_full = -np.inf

    def __call__(self, crops: NDArray[np.uint8], ids: Sequence[int], seconds: float) -> Predictions:
        """(B, S, S, 3) uint8 BGR crops of the tracks `ids`, at `seconds` of the source's clock -> Predictions.

        Raises SessionError if a model fails.
        """
        session = self.session_for(ids, seconds)
        return self.complete(session(crops), session, ids, seconds)

    def session_for(self, ids: Sequence[int], seconds: float) -> Session:
        """The first half of a call: the session to run on the faces of the tracks `ids`.

        `complete` is the second half. Between the halves the caller runs the session, for example on the faces of
        several sources at once.
        """
        if self._collapsed is None or not len(ids):
            return self._session
        known = all(id in self._differences for id in ids)
        return self._collapsed if known and 0 <= seconds - self._last_full < FULL_EVERY else self._session

    def complete(self, predictions: Predictions, session: Session, ids: Sequence[int], seconds: float) -> Predictions:
        """The second half of a call: what `session` predicted for the faces -> Predictions of all strata."""
        if self._collapsed is None or not len(ids):
            return predictions
        if session is self._collapsed:
            logits = predictions.logits[:, np.newaxis].astype(np.float64)
            return average_over_strata(logits + np.stack([self._differences[id] for id in ids]), self._session.artifact)
        logits = predictions.stratum_logits.astype(np.float64)
        self._differences = dict(zip(ids, logits - logits.mean(axis=1, keepdims=True), strict=True))
        self._last_full = seconds
        return predictions
