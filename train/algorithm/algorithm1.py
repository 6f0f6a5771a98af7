"""Algorithm 1: one training iteration, three optimisers, in the order of lines 2 to 7.

    Dis    d_e, d_c             on detached features (first terms of Eq. 3, 4)
    Feat   g_e, g_c, g_r, C     discriminators frozen (second terms of Eq. 3, 4; Eq. 5, 6), f_b detached
    Cls    f_b, g_e, f_c        all strata, g_r and C frozen (Eq. 7)

What moves BatchNorm's running statistics, once an iteration each: f_b in its one forward pass, g_c in its own, g_e in
the Cls pass (the weights that step leaves behind), g_r in the Cls passes. See `Statistics` for the last.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from iern.train.algorithm import losses
from iern.train.algorithm.centres import ContextMeans
from iern.train.algorithm.frozen import frozen_statistics, no_gradient, statistics_momentum
from iern.train.network.iern import IERN, Baseline, Disentanglement, batch_norms

Statistics = Literal["published", "balanced"]
"""g_r runs once a stratum, each pass with its own batch statistics. `published`: every pass, the reconstruction's too,
moves the running ones by the momentum, so they favour the last stratum. `balanced`: the reconstruction's pass moves
nothing and each stratum's pass weighs momentum / N, in one iteration as if all strata had been seen at once."""


@dataclass(frozen=True)
class AlgorithmConfig:
    """Learning rates and weights of Algorithm 1; the defaults are the published ones."""

    lr: float = 2e-4
    """Adam's learning rate of everything but the backbone."""
    backbone_lr: float = 1e-4
    """Of f_b (the paper names one rate, its code has this one)."""
    centre_lr: float | None = None
    """Of the centres C; none: `lr`. Adam moves a centre about this much an iteration, from a start of N(0, 1)."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's moments."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW) where above 0."""
    disentangle: float = 1.0
    """lambda1, of Eq. 3 to 5 (Eq. 8)."""
    centre: float = 5e-4
    """lambda2, of Eq. 6."""
    classify: float = 1.0
    """lambda3, of Eq. 7."""
    centres: Literal["paper", "means", "frozen", "shared"] = "paper"
    """`means`: after the first epoch the centres are set to the strata's mean context features, then learned on.
    Ablations: `frozen`: they stay the noise that they start as, without Eq. 6; `shared`: one centre for all strata."""
    discriminators: Literal["own", "both"] = "own"
    """What d_e and d_c learn to read in line 3. `own`: d_e the emotion feature, d_c the context feature, so neither
    knows the feature that it judges in line 4. `both`: each reads both features."""
    independence: float = 0.0
    """Not in the paper: weight, beside Eq. 5's, of how well the strata can be told apart linearly from the pooled
    emotion feature (`losses.linear_dependence`). Above 0 it wants batches larger than d."""
    logit_adjustment: float = 0.0
    """tau: the training loss of Eq. 7 sees logits + tau log(prior of the training labels), so that rare expressions
    are not left to it (Menon et al. 2021); what is answered stays without it. 0: off."""
    stratum_adjustment: float = 0.0
    """kappa: the loss of Eq. 7 also sees kappa (log P(e | stratum) - log P(e)), of the face's own stratum and of all
    training labels: it is told what the confounder says about the expression, so that telling the stratum wins nothing,
    and answers are those of the average stratum, P(Y|do(X)). 1: in full; 0: off."""
    statistics: Statistics = "published"
    """What moves g_r's running statistics: `published` or `balanced`."""


@dataclass
class Batch:
    """One batch on the device."""

    faces: Tensor
    """(B, S, S, 3) uint8 BGR."""
    expression: Tensor
    """(B, E) target distribution."""
    confounder: Tensor
    """(B,) int64 stratum indices."""


@dataclass
class Algorithm1:
    """The optimisers and their one `step`; for `Baseline` and `Disentanglement` the parts that they have."""

    model: Baseline
    config: AlgorithmConfig
    fabric: Fabric
    prior: Tensor | None = None
    """(E,) shares of the expressions in the training targets; needed for the two adjustments alone."""
    stratum_prior: Tensor | None = None
    """(N, E) the same in each stratum's; needed for `stratum_adjustment` alone."""
    optimisers: dict[str, Optimizer] = field(init=False)
    """`dis`, `feat`, `cls`; g_e has separate moments in the last two."""
    context_means: ContextMeans | None = field(init=False, default=None)
    logit_offset: Tensor | None = field(init=False, default=None)
    """(N, E) what the classification loss adds to the logits of each stratum's faces."""

    def __post_init__(self) -> None:
        self.logit_offset = self._offset()
        made = {name: self._adam(groups) for name, groups in _parameter_groups(self.model, self.config).items()}
        # Fabric is given the optimisers (for the gradient scaler) but not the module: an iteration has three backward
        # passes through different parts, which DistributedDataParallel's one-forward-one-backward does not fit.
        self.optimisers = {name: cast(Optimizer, self.fabric.setup_optimizers(o)) for name, o in made.items()}
        if isinstance(self.model, IERN):
            if self.config.centres == "shared":
                self.model.confounders.data.copy_(self.model.confounders.data[:1].expand_as(self.model.confounders))
            self.context_means = ContextMeans.like(self.model.confounders.detach())

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One iteration; returns the losses, unweighted and detached, by name."""
        model = self.model
        with self.fabric.autocast():
            base = model.backbone(model.normalise(batch.faces))
        found: dict[str, Tensor] = {}
        if isinstance(model, Disentanglement):
            with self.fabric.autocast(), frozen_statistics([model.emotion_generator]):
                emotion = model.emotion_generator(base.detach())
            with self.fabric.autocast():
                context = model.context_generator(base.detach())
            found |= self._discriminate(model, emotion.detach(), context.detach(), batch)
            found |= self._disentangle(model, base.detach(), emotion, context, batch)
            if self.context_means is not None:
                self.context_means.add(context, batch.confounder)
        found |= self._classify(model, base, batch)
        return {name: loss.detach() for name, loss in found.items()}

    def _discriminate(
        self, model: Disentanglement, emotion: Tensor, context: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        """Line 3: d_e and d_c learn to read the features."""
        with self.fabric.autocast():
            loss = losses.discriminator_loss(
                model.emotion_discriminator(emotion),
                batch.expression,
                model.context_discriminator(context),
                batch.confounder,
            )
            if self.config.discriminators == "both":
                crossed = losses.discriminator_loss(
                    model.emotion_discriminator(context),
                    batch.expression,
                    model.context_discriminator(emotion),
                    batch.confounder,
                )
                loss = (loss + crossed) / 2
        self._update("dis", self.config.disentangle * loss)
        return {"discriminator": loss}

    def _disentangle(
        self, model: Disentanglement, base: Tensor, emotion: Tensor, context: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        """Line 4: g_e and g_c confuse the other's discriminator, g_r reconstructs, C follows the context features."""
        still = self.config.statistics == "balanced" and isinstance(model, IERN)
        with self.fabric.autocast(), no_gradient([model.emotion_discriminator, model.context_discriminator]):
            confusion = losses.confusion_loss(
                model.context_discriminator(emotion), model.emotion_discriminator(context)
            )
            with frozen_statistics([model.reconstruction]) if still else contextlib.nullcontext():
                rebuilt = model.reconstruction(emotion, context)
            found = {"confusion": confusion, "reconstruction": losses.reconstruction_loss(rebuilt, base)}
            loss = self.config.disentangle * (found["confusion"] + found["reconstruction"])
            if self.config.independence > 0:
                strata = len(model.config.strata)
                found["dependence"] = losses.linear_dependence(emotion, batch.confounder, strata)
                loss = loss + self.config.disentangle * self.config.independence * found["dependence"]
            if isinstance(model, IERN) and self.config.centres != "frozen":
                found["centre"] = losses.centre_loss(context, self._centres(model)[batch.confounder])
                loss = loss + self.config.centre * found["centre"]
        self._update("feat", loss)
        return found

    def _centres(self, model: IERN) -> Tensor:
        """(N, d, h, w) centres of Eq. 6; where one is shared, N equal ones with equal gradients, so they stay equal."""
        if self.config.centres == "shared":
            return model.confounders.mean(dim=0, keepdim=True).expand_as(model.confounders)
        return model.confounders

    def _classify(self, model: Baseline, base: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Lines 5 to 7: the emotion feature, by the g_e that line 4 has just changed, meets every stratum."""
        with self.fabric.autocast():
            logits = self._mean_logits(model, base)
            offset = None if self.logit_offset is None else self.logit_offset[batch.confounder]
            loss = losses.classification_loss(logits, batch.expression, offset)
        self._update("cls", self.config.classify * loss)
        return {"classification": loss}

    def _offset(self) -> Tensor | None:
        """(N, E): tau log P(e) + kappa (log P(e | stratum) - log P(e)); none where neither is asked for."""
        tau, kappa = self.config.logit_adjustment, self.config.stratum_adjustment
        if not tau and not kappa:
            return None
        overall = _log_prior(self.prior, "logit_adjustment" if tau else "stratum_adjustment", self.fabric)
        offset = ((tau - kappa) * overall).expand(len(self.model.config.strata), -1)
        if kappa:
            offset = offset + kappa * _log_prior(self.stratum_prior, "stratum_adjustment", self.fabric)
        return offset

    def _mean_logits(self, model: Baseline, base: Tensor) -> Tensor:
        """(B, d, h, w) base features -> (B, E) logits, as the method answers; g_r takes no gradient."""
        if not isinstance(model, Disentanglement):
            return model.classifier(base)
        emotion = model.emotion_generator(base)
        if not isinstance(model, IERN):
            return model.classifier(emotion)
        logits = []
        with no_gradient([model.reconstruction]):
            for i, momentum in enumerate(self._stratum_momenta(model)):
                with statistics_momentum(model.reconstruction, momentum):
                    logits.append(model.intervene(emotion, i))
        return torch.stack(logits).mean(dim=0)

    def _stratum_momenta(self, model: IERN) -> list[float | None]:
        """BatchNorm's momentum in each stratum's pass of g_r; none: its own."""
        strata = len(model.config.strata)
        if self.config.statistics == "published":
            return [None] * strata
        # r <- (1 - a_k) r + a_k s_k for k = 1..N leaves each s_k with the weight m / N where a_k is this.
        m = batch_norms([model.reconstruction])[0].momentum or 0.1
        return [m / (strata - (strata - k) * m) for k in range(1, strata + 1)]

    def _update(self, name: str, loss: Tensor) -> None:
        optimiser = self.optimisers[name]
        optimiser.zero_grad()
        self.fabric.backward(loss)
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        average_gradients(parameters, self.fabric)
        optimiser.step()

    def _adam(self, groups: list[dict]) -> Optimizer:
        kind = torch.optim.AdamW if self.config.weight_decay > 0 else Adam
        return kind(groups, lr=self.config.lr, betas=self.config.betas, weight_decay=self.config.weight_decay)

    @torch.no_grad()
    def end_epoch(self, epoch: int, last: bool = False) -> dict[str, float]:
        """Report on the centres, and with `centres: means` set them; every process must call it.

        `epoch` counts from 0; after the `last` one the centres stay those that f_c was trained on. Returns
        `centre_distance`: root mean square distance of C to the strata's mean context features of this epoch.
        """
        if self.context_means is None:
            return {}
        model = cast(IERN, self.model)
        self.context_means.total = cast(Tensor, self.fabric.all_reduce(self.context_means.total, reduce_op="sum"))
        self.context_means.count = cast(Tensor, self.fabric.all_reduce(self.context_means.count, reduce_op="sum"))
        seen, means = self.context_means.count > 0, self.context_means.means()
        distance = float((model.confounders - means)[seen].square().mean().sqrt())
        if epoch == 0 and not last and self.config.centres == "means":
            model.confounders[seen] = means[seen]
            self.optimisers["feat"].state.pop(model.confounders, None)  # moments of a place it has left
        self.context_means = ContextMeans.like(self.context_means.total)
        return {"centre_distance": distance}


def _log_prior(prior: Tensor | None, wanted_by: str, fabric: Fabric) -> Tensor:
    """Shares -> their float32 logarithms on the device, finite for an expression that no target has."""
    if prior is None:
        raise ValueError(f"{wanted_by} needs the prior of the training labels, found none; give Algorithm1 its prior")
    return prior.clamp(min=torch.finfo(torch.float32).tiny).log().float().to(fabric.device)


def average_gradients(parameters: list[nn.Parameter], fabric: Fabric) -> None:
    """Mean of the processes' gradients, in place; nothing for one process."""
    if fabric.world_size == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = cast(Tensor, fabric.all_reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean"))
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)


@torch.no_grad()
def average_statistics(model: nn.Module, fabric: Fabric) -> None:
    """Mean of the processes' BatchNorm running statistics, in place; between epochs each keeps its own."""
    if fabric.world_size == 1:
        return
    for norm in batch_norms([model]):
        for statistic in (norm.running_mean, norm.running_var):
            if statistic is not None:
                statistic.copy_(cast(Tensor, fabric.all_reduce(statistic, reduce_op="mean")))


def _parameter_groups(model: Baseline, config: AlgorithmConfig) -> dict[str, list[dict[str, Any]]]:
    """Which optimiser steps what (Algorithm 1, lines 3, 4, 7); f_b has its own rate."""
    cls: list[dict[str, Any]] = [{"params": list(model.backbone.parameters()), "lr": config.backbone_lr}]
    if not isinstance(model, Disentanglement):
        return {"cls": [*cls, {"params": list(model.classifier.parameters())}]}
    shared = list(model.emotion_generator.parameters())
    generators = [*shared, *model.context_generator.parameters(), *model.reconstruction.parameters()]
    feat: list[dict[str, Any]] = [{"params": generators}]
    if isinstance(model, IERN) and config.centres != "frozen":
        rate = config.lr if config.centre_lr is None else config.centre_lr
        feat.append({"params": [model.confounders], "lr": rate, "weight_decay": 0.0})
    dis = [*model.emotion_discriminator.parameters(), *model.context_discriminator.parameters()]
    # The published code also hands g_r to the last optimiser, with rate 0: left out, it is the same.
    cls.append({"params": [*shared, *model.classifier.parameters()]})
    return {"dis": [{"params": dis}], "feat": feat, "cls": cls}
