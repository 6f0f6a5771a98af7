"""Calibration: the temperature that fits the labels, and the threshold below which a face is uncertain."""

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
"""A best temperature outside these is a sign of too few faces or of wrong labels."""
TARGET_RISK = 0.10
"""Largest share of wrong predictions among the faces that are not uncertain."""
FEWEST = 100
"""Smallest number of faces for a risk."""
ALL_UNCERTAIN = 1.0
"""The threshold if none keeps the target: a name would promise a risk that was not reached, or not measured."""


class Curve(NamedTuple):
    """The risk-coverage curve: the risk if only the k faces of the largest probabilities count, for each possible k."""

    lowest: NDArray[np.float64]
    """(K,) Largest probability of the last of the k faces, falling."""
    faces: NDArray[np.int64]
    """(K,) k: the number of faces with at least that probability."""
    risk: NDArray[np.float64]
    """(K,) Share of wrong predictions among them."""


def negative_log_likelihood(probabilities: Tensor, labels: Tensor) -> Tensor:
    """(n, E) probabilities, (n,) labels -> (n,) -log p(label)."""
    smallest = torch.finfo(probabilities.dtype).tiny
    return nll_loss(probabilities.clamp_min(smallest).log(), labels, reduction="none")


def fit_temperature(stratum_logits: Tensor, labels: Tensor, average: str) -> float:
    """(n, N, E) logits and (n,) labels -> the temperature of the greatest likelihood, by L-BFGS in float64.

    It is fitted to labels, not to votes, since accuracy, calibration error and risk are measured against labels.
    `average` is as for `average_strata`. Raises DataError if no temperature in TEMPERATURES is best.
    """
    logits = stratum_logits.double()
    if torch.equal(average_strata(logits, average).argmax(dim=1), labels):
        raise DataError(
            f"the predictions for all {len(labels)} faces are right, so no temperature is best; use more faces"
        )
    # The start gives the logits a unit spread: the fit does not depend on their scale, and no softmax is flat.
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
            f"the best temperature for {len(labels)} faces is {temperature:.3g}, expected {low} to {high}; use more "
            "faces, some with wrong predictions, and check their labels"
        )
    return temperature


def risk_coverage(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Curve:
    """(n, E) probabilities, (n,) labels -> the curve. Faces with the same largest probability are added together."""
    largest = probabilities.max(axis=1)
    order = np.argsort(-largest, kind="stable")
    falling, wrong = largest[order], (probabilities.argmax(axis=1) != labels)[order]
    last = np.append(falling[1:] < falling[:-1], True)
    faces = np.arange(1, len(falling) + 1)
    return Curve(falling[last], faces[last], (np.cumsum(wrong) / faces)[last])


def choose_threshold(curve: Curve, target: float = TARGET_RISK) -> float:
    """The threshold that keeps the most faces at a risk of at most `target`; 0 if it keeps all of them.

    It is half-way between the last face that is kept and the next, so that rounding in an exported file moves no face
    across it. If none keeps the target over at least FEWEST faces, it is ALL_UNCERTAIN: see `why_all_uncertain`.
    """
    if target >= 1:
        return 0.0  # whatever the faces are
    allowed = np.flatnonzero((curve.risk <= target) & (curve.faces >= FEWEST))
    if not len(allowed):
        return ALL_UNCERTAIN
    last = allowed[-1]
    return float(curve.lowest[last : last + 2].mean()) if last + 1 < len(curve.lowest) else 0.0


def why_all_uncertain(curve: Curve, target: float) -> str:
    """Why no threshold keeps the target, what follows, and what to do."""
    enough = curve.risk[curve.faces >= FEWEST]
    found = f"the smallest share is {enough.min():.1%}" if len(enough) else f"there are {curve.faces[-1]} faces"
    return (
        f"no threshold leaves at least {FEWEST} faces with at most {target:.1%} of them wrong: {found}. The threshold "
        f"is therefore {ALL_UNCERTAIN:g}, and the runtime calls every face uncertain; set a higher --risk, use more "
        "faces, or name every face with --risk 1"
    )
