"""A model at a place where the expressions are more or less frequent than its probabilities assume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iern.runtime.artifact import Prior
from iern.runtime.intervention import average_over_strata, logit_shift
from iern.runtime.session import Predictions, Session


class PriorSession(Session):
    """An open model whose predictions hold for another prior, with any backend.

    The logits of every stratum are shifted, so what is computed from them later, such as the smoothing over a track,
    holds for that prior too.
    """

    def __init__(self, session: Session, prior: Prior, name: str) -> None:
        """Take over `session`, an open model called `name`. Raises PriorError as `Artifact.with_prior` does."""
        artifact = session.artifact.with_prior(prior, name)
        super().__init__(artifact, session.provider, session.max_batch, session.note)
        self.precision_note = session.precision_note
        self._session = session
        self._shift = logit_shift(session.artifact, artifact.prior)

    def _run(self, faces: NDArray[np.uint8]) -> Predictions:
        return average_over_strata(self._session(faces).stratum_logits + self._shift, self.artifact)

    def _free(self) -> None:
        self._session.close()
