"""The numbers and options of Algorithm 1; the comments are what `train/fit.py --help` prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Statistics = Literal["published", "balanced"]
"""What moves g_r's running statistics. g_r runs once a stratum, and each pass has its own batch statistics.

`published`: every pass moves them by the momentum, the reconstruction's pass too, so they favour the last stratum.
`balanced`: the reconstruction's pass moves nothing, and each stratum's pass weighs momentum / N.
"""


@dataclass(frozen=True)
class AlgorithmConfig:
    """Learning rates and weights of Algorithm 1. The defaults are the published ones."""

    lr: float = 2e-4
    """Adam's learning rate of all parts but the backbone."""
    backbone_lr: float = 1e-4
    """Learning rate of the backbone f_b. The paper names one rate; its code has this second one."""
    centre_lr: float | None = None
    """Learning rate of the centres C; default: `lr`. The centres start as noise of N(0, 1), and Adam moves each value
    by about this much an iteration."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay rates of the two moments."""
    weight_decay: float = 0.0
    """Decoupled weight decay. Above 0 the optimiser is AdamW."""
    disentangle: float = 1.0
    """lambda1: weight of Eq. 3 to 5 (Eq. 8)."""
    centre: float = 5e-4
    """lambda2: weight of Eq. 6."""
    classify: float = 1.0
    """lambda3: weight of Eq. 7."""
    centres: Literal["paper", "means", "frozen", "shared"] = "paper"
    """How the centres are learned. `paper`: by Eq. 6. `means`: the same, but after the first epoch they are set to the
    mean context features of the strata. Two ablations: `frozen`: they stay noise, without Eq. 6. `shared`: all strata
    have one centre."""
    logit_adjustment: float = 0.0
    """tau: the loss of Eq. 7 adds tau log P(expression) of the training labels to the logits, so that rare expressions
    are recognised more often (Menon et al. 2021). Predictions are made without it. 0: off."""
    stratum_adjustment: float = 0.0
    """kappa: the loss of Eq. 7 also adds kappa (log P(expression | stratum) - log P(expression)), for the stratum of
    the face. The network then gains nothing by recognising the stratum, and predicts P(Y|do(X)), as in an average
    stratum. Predictions are made without it. 1: in full; 0: off."""
    statistics: Statistics = "published"
    """What moves the running statistics of g_r: `published`: every pass, so the last stratum counts most. `balanced`:
    all strata count the same."""
