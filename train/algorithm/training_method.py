"""What all training methods share: their optimisers, the update of one of them, the logit offsets."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Adam, Optimizer

from iern.train.algorithm.batch import Batch
from iern.train.algorithm.config import AlgorithmConfig
from iern.train.algorithm.logit_offset import LabelPriors, logit_offset
from iern.train.algorithm.processes import average_gradients
from iern.train.network.config import Method
from iern.train.network.iern import Baseline

ParameterGroup = dict[str, Any]
"""One group of an optimiser, as PyTorch takes it: `params`, and options such as `lr`."""


class TrainingMethod(abc.ABC):
    """A network and how it is trained. A new method is a subclass, and an entry in `methods.METHODS`."""

    name: ClassVar[Method]
    """The value of the recipe's `model.method`."""
    needs_strata: ClassVar[bool]
    """Whether the losses use the strata, so that the training faces must have at least two."""

    def __init__(
        self, model: Baseline, config: AlgorithmConfig, fabric: Fabric, priors: LabelPriors | None = None
    ) -> None:
        self.model, self.config, self.fabric = model, config, fabric
        strata = len(model.config.strata)
        self.logit_offset = logit_offset(config, priors or LabelPriors(), strata, fabric.device)
        groups = self.parameter_groups()
        # Fabric gets the optimisers (for the gradient scaler) but not the module. An iteration may have several
        # backward passes through different parts, and DistributedDataParallel expects one forward and one backward.
        self.optimisers = {
            name: cast(Optimizer, fabric.setup_optimizers(self._adam(own))) for name, own in groups.items()
        }

    @abc.abstractmethod
    def parameter_groups(self) -> dict[str, list[ParameterGroup]]:
        """The parameters that each optimiser moves, by the optimiser's name."""

    @abc.abstractmethod
    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Train on one batch; returns the losses by name, unweighted and detached."""

    def end_epoch(self, epoch: int, last: bool = False) -> dict[str, float]:
        """End an epoch, counted from 0; returns figures to report. Every process must call it."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a resumed run needs besides weights and optimisers. Every process must call it."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027, a method without a state has nothing to do
        """Continue from what `state` returned."""

    def update(self, optimiser: str, loss: Tensor) -> None:
        """One step of an optimiser down the gradient of a loss, averaged over the processes."""
        own = self.optimisers[optimiser]
        own.zero_grad()
        self.fabric.backward(loss)
        average_gradients([p for group in own.param_groups for p in group["params"]], self.fabric)
        own.step()

    def _adam(self, groups: list[ParameterGroup]) -> Optimizer:
        kind = torch.optim.AdamW if self.config.weight_decay > 0 else Adam
        return kind(groups, lr=self.config.lr, betas=self.config.betas, weight_decay=self.config.weight_decay)
