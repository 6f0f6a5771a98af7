"""Probabilities that mean what they say, and the largest one below which a model had better say nothing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import nll_loss

from iern.runtime.errors import DataError
from iern.train.network.iern import average_strata

TEMPERATURES = (0.05, 20.0)
"""A best temperature beyond these is no sharpness of a model's, but too few faces or labels of something else."""
TARGET_RISK = 0.10
"""Of the faces that are not uncertain, at most this share may be answered wrongly: one in ten."""
FEWEST = 100
"""A risk over fewer faces than these is not believed."""


class Curve(NamedTuple):
    """The risk-coverage curve: what happens if only the k likeliest answers are given, for every k that can be."""

    lowest: NDArray[np.float64]
    """(K,) largest probability of the last face that is answered, falling."""
    answered: NDArray[np.int64]
    """(K,) faces with at least that much."""
    risk: NDArray[np.float64]
    """(K,) share of wrong answers among them."""


def negative_log_likelihood(probabilities: Tensor, labels: Tensor) -> Tensor:
    """(n, E) probabilities, (n,) labels -> (n,) -log p(label)."""
    smallest = torch.finfo(probabilities.dtype).tiny
    return nll_loss(probabilities.clamp_min(smallest).log(), labels, reduction="none")


def fit_temperature(stratum_logits: Tensor, labels: Tensor, average: str) -> float:
    """The temperature of the greatest likelihood of (n,) labels under (n, N, E) logits, by L-BFGS in float64.

    On the labels and not on votes, since accuracy, calibration error and risk are all counted against the labels.
    `average` is as for `average_strata`. Raises DataError if no temperature in TEMPERATURES is best.
    """
    logits = stratum_logits.double()
    if torch.equal(average_strata(logits, average).argmax(dim=1), labels):
        raise DataError(f"all {len(labels)} faces are answered rightly, so that no certainty is too much; take more")
    # From where the logits have unit spread: from any scale the same way, and no softmax starts out flat.
    spread = (logits - logits.mean(dim=-1, keepdim=True)).std()
    logarithm = spread.log().requires_grad_()
    optimiser = torch.optim.LBFGS([logarithm], max_iter=200, tolerance_change=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = negative_log_likelihood(average_strata(logits / logarithm.exp(), average), labels).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    temperature = float(logarithm.detach().exp())
    low, high = TEMPERATURES
    if not low <= temperature <= high:
        raise DataError(
            f"the best temperature for {len(labels)} faces is {temperature:.3g}, expected {low} to {high}; take more "
            "faces, some of which the model answers wrongly, and check their labels"
        )
    return temperature


def risk_coverage(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Curve:
    """(n, E) probabilities, (n,) labels -> the curve. Faces of the same largest probability are answered together."""
    largest = probabilities.max(axis=1)
    order = np.argsort(-largest, kind="stable")
    falling, wrong = largest[order], (probabilities.argmax(axis=1) != labels)[order]
    last = np.append(falling[1:] < falling[:-1], True)
    answered = np.arange(1, len(falling) + 1)
    return Curve(falling[last], answered[last], (np.cumsum(wrong) / answered)[last])


def choose_threshold(curve: Curve, target: float = TARGET_RISK) -> float:
    """The threshold that answers most faces at a risk of at most `target`.

    It lies half-way to the next face that is not answered, so that rounding in another form of the network moves none
    across; 0 where all are answered. Raises DataError where even the likeliest answers are not right so often.
    """
    allowed = np.flatnonzero((curve.risk <= target) & (curve.answered >= FEWEST))
    if not len(allowed):
        enough = curve.risk[curve.answered >= FEWEST]
        found = f"the least is {enough.min():.1%}" if len(enough) else f"there are {curve.answered[-1]} faces"
        raise DataError(
            f"at no threshold are at most {target:.1%} of the answers wrong and at least {FEWEST} faces answered: "
            f"{found}; allow a higher --risk, or take more faces"
        )
    last = allowed[-1]
    return float(curve.lowest[last : last + 2].mean()) if last + 1 < len(curve.lowest) else 0.0
