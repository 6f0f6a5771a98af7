"""The network with its strata collapsed into one: an approximation that costs as much as a single stratum.

The mean over the strata of f_c(g_r(e, C_i)) becomes f_c(g_r(e, C)), with C the mean of the centres C_i. So the
expectation moves into the function, as methods that approximate the intervention do (appendix C of the paper). All of
g_r and f_c is affine but the ReLUs of g_r, and the mean centre is exact as far as the first of them. The error is of
second order in the differences between the centres, and only the gate (`iern.export.parity.collapsed`) can tell whether
it is small. Corrections of first order were tried: see docs/architecture.md.
"""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import nn

from iern.train.network.iern import IERN

MEAN_STRATUM = "mean"
"""The name of the one stratum that is left."""


@torch.no_grad()
def collapsed(model: IERN) -> IERN:
    """A network of N strata -> the same with one, whose centre (1, d, h, w) is the mean of the N centres.

    The given model is not changed.
    """
    model = copy.deepcopy(model)
    model.config = dataclasses.replace(model.config, strata=(MEAN_STRATUM,))
    # In float64, since the centres may be nearly equal.
    centre = model.confounders.double().mean(dim=0, keepdim=True)
    model.confounders = nn.Parameter(centre.to(model.confounders.dtype))
    return model
