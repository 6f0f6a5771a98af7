"""The intervention in NumPy: the mean over the confounder strata (Eq. 9, 11), and how far the strata disagree.

An exported graph computes this mean itself. Here it is computed again for logits that were changed after the graph,
as smoothing over a face's track does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iern.runtime.artifact import Artifact
from iern.runtime.session import Predictions


def average_over_strata(stratum_logits: NDArray[np.float64], artifact: Artifact) -> Predictions:
    """(B, N, E) logits under each stratum -> the predictions P(Y | do(X)), as the artifact's model averages them.

    `artifact.answer` is `logits` (Eq. 9: the mean of the logits, then softmax) or `probabilities` (Eq. 11: the mean of
    the strata's softmaxes).
    """
    logits = stratum_logits.mean(axis=1)
    if artifact.answer == "probabilities":
        probabilities = softmax(stratum_logits / artifact.temperature).mean(axis=1)
    else:
        probabilities = softmax(logits / artifact.temperature)
    return Predictions(*(values.astype(np.float32) for values in (probabilities, logits, stratum_logits)))


def stratum_disagreement(stratum_logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """(B, N, E) logits -> (B,) mean total variation distance of the strata's answers to their mean answer.

    Stratum i answers as if the face had been seen in its context: p_i is the softmax of its logits over the
    temperature. With p the mean of the p_i, the result is 1/N sum_i 1/2 sum_e |p_i(e) - p(e)|. It lies in [0, 1 - 1/N].
    0: all strata give the same probabilities, or there is one stratum. 1 - 1/N: each stratum is certain of an
    expression of its own.
    """
    answers = softmax(stratum_logits.astype(np.float64) / temperature)
    distances = np.abs(answers - answers.mean(axis=1, keepdims=True)).sum(axis=-1) / 2
    return distances.mean(axis=1)


def softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """(..., E) logits -> (..., E) probabilities, of the same type."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
