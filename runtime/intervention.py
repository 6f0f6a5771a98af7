"""The intervention in NumPy: the mean over the confounder strata (Eq. 9, 11), and how far the strata disagree.

An exported graph computes this mean itself. The runtime computes it again after it has smoothed the logits over a
face's track.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from iern.runtime.artifact import Artifact
    from iern.runtime.session import Predictions


def average_over_strata(stratum_logits: NDArray[np.float64], artifact: Artifact) -> Predictions:
    """(B, N, E) logits under each stratum -> Predictions of P(Y | do(X)), averaged as the artifact's model does.

    `artifact.answer` is `logits` (Eq. 9: the mean of the logits, then softmax) or `probabilities` (Eq. 11: the mean of
    the strata's softmaxes).
    """
    from iern.runtime.session import Predictions  # late: it needs OpenCV, and the command line does not

    logits = stratum_logits.mean(axis=1)
    if artifact.answer == "probabilities":
        probabilities = softmax(stratum_logits / artifact.temperature).mean(axis=1)
    else:
        probabilities = softmax(logits / artifact.temperature)
    return Predictions(*(values.astype(np.float32) for values in (probabilities, logits, stratum_logits)))


def logit_shift(artifact: Artifact, prior: Sequence[float]) -> NDArray[np.float64]:
    """What is added to the logits of every stratum, (E,), so that the probabilities hold where the rates are `prior`.

    It is T log(q'(e) / q(e)), with q(e) the rates that the model assumes, q'(e) those of `prior`, T the temperature.
    Then p'(e|x) is proportional to p(e|x) q'(e) / q(e) (Saerens et al. 2002), exactly if `artifact.answer` is `logits`.
    If it is `probabilities`, that holds under each stratum, and p' is the mean over the strata.
    """
    return artifact.temperature * np.log(np.divide(prior, artifact.prior))


def stratum_disagreement(stratum_logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """(B, N, E) logits -> (B,) mean total variation distance between each stratum's probabilities and their mean.

    p_i is the softmax of stratum i's logits over the temperature, and p is the mean of the p_i. The result is
    1/N sum_i 1/2 sum_e |p_i(e) - p(e)|, from 0 to 1 - 1/N. It is 0 if all strata give the same probabilities, or if
    there is one stratum. It is 1 - 1/N if each stratum is certain of a different expression.
    """
    probabilities = softmax(stratum_logits.astype(np.float64) / temperature)
    distances = np.abs(probabilities - probabilities.mean(axis=1, keepdims=True)).sum(axis=-1) / 2
    return distances.mean(axis=1)


def softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """(..., E) logits -> (..., E) probabilities, in the same number type."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
