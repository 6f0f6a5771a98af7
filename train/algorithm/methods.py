"""Algorithm 1, one class a training method. An iteration has up to three updates, in the order of lines 2 to 7:

    Dis    d_e, d_c             on detached features (first terms of Eq. 3, 4)
    Feat   g_e, g_c, g_r, C     discriminators frozen (second terms of Eq. 3, 4; Eq. 5, 6), f_b detached
    Cls    f_b, g_e, f_c        all strata, g_r and C frozen (Eq. 7)

`BaselineMethod` has Cls alone. `DisentanglementMethod` adds Dis and Feat. `IernMethod` adds the strata.

BatchNorm's running statistics move once an iteration: those of f_b in its one pass, those of g_c in its own, and those
of g_e in the Cls pass, by the weights that Feat leaves. g_r's move in the Cls passes: see `config.Statistics`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from lightning_fabric import Fabric
from torch import Tensor

from iern.train.algorithm import losses
from iern.train.algorithm.batch import Batch
from iern.train.algorithm.centres import ContextMeans
from iern.train.algorithm.config import AlgorithmConfig
from iern.train.algorithm.frozen import frozen_statistics, no_gradient, statistics_momentum
from iern.train.algorithm.logit_offset import LabelPriors
from iern.train.algorithm.training_method import ParameterGroup, TrainingMethod
from iern.train.network.config import Method
from iern.train.network.iern import IERN, Baseline, Disentanglement, batch_norms


class BaselineMethod(TrainingMethod):
    """f_c(f_b(x)), trained by the classification loss alone (Eq. 7)."""

    name: ClassVar[Method] = "baseline"
    needs_strata = False

    def parameter_groups(self) -> dict[str, list[ParameterGroup]]:
        """Cls moves all parameters."""
        return {"cls": [self._backbone(), {"params": list(self.model.classifier.parameters())}]}

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Train by Cls."""
        return _detached(self.classify(self.base(batch), batch))

    def base(self, batch: Batch) -> Tensor:
        """-> (B, d, h, w) base features f_b(x)."""
        with self.fabric.autocast():
            return self.model.backbone(self.model.normalise(batch.faces))

    def classify(self, base: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Lines 5 to 7: f_b and the parts behind it learn from the prediction for (B, d, h, w) base features."""
        with self.fabric.autocast():
            logits = self.mean_logits(base)
            offset = None if self.logit_offset is None else self.logit_offset[batch.confounder]
            loss = losses.classification_loss(logits, batch.expression, offset)
        self.update("cls", self.config.classify * loss)
        return {"classification": loss}

    def mean_logits(self, base: Tensor) -> Tensor:
        """(B, d, h, w) base features -> (B, E) logits of the prediction."""
        return self.model.classifier(base)

    def _backbone(self) -> ParameterGroup:
        return {"params": list(self.model.backbone.parameters()), "lr": self.config.backbone_lr}


@dataclass(frozen=True)
class Features:
    """Maps (B, d, h, w) of one batch, as the losses of line 4 see them."""

    base: Tensor
    """f_b(x), detached."""
    emotion: Tensor
    """g_e of it."""
    context: Tensor
    """g_c of it."""


class DisentanglementMethod(BaselineMethod):
    """f_c(g_e(f_b(x))): emotion and context are separated first (Eq. 3 to 5)."""

    name: ClassVar[Method] = "disentanglement"
    needs_strata = True
    model: Disentanglement

    def parameter_groups(self) -> dict[str, list[ParameterGroup]]:
        """Those of lines 3, 4 and 7. Two optimisers move g_e, each with its own moments."""
        model = self.model
        emotion_generator = list(model.emotion_generator.parameters())
        generators = [*emotion_generator, *model.context_generator.parameters(), *model.reconstruction.parameters()]
        discriminators = [*model.emotion_discriminator.parameters(), *model.context_discriminator.parameters()]
        # The published code also gives g_r to the last optimiser, with rate 0, which changes nothing.
        return {
            "dis": [{"params": discriminators}],
            "feat": [{"params": generators}],
            "cls": [self._backbone(), {"params": [*emotion_generator, *model.classifier.parameters()]}],
        }

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Train by Dis, Feat and Cls."""
        base = self.base(batch)
        features = self.features(base.detach())
        found = self.discriminate(features, batch)
        found |= self.disentangle(features, batch)
        found |= self.classify(base, batch)
        return _detached(found)

    def features(self, base: Tensor) -> Features:
        """(B, d, h, w) detached base features -> the maps of line 4."""
        with self.fabric.autocast(), frozen_statistics([self.model.emotion_generator]):
            emotion = self.model.emotion_generator(base)
        with self.fabric.autocast():
            context = self.model.context_generator(base)
        return Features(base, emotion, context)

    def discriminate(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Line 3: d_e and d_c learn to read the features."""
        with self.fabric.autocast():
            loss = losses.discriminator_loss(
                self.model.emotion_discriminator(features.emotion.detach()),
                batch.expression,
                self.model.context_discriminator(features.context.detach()),
                batch.confounder,
            )
        self.update("dis", self.config.disentangle * loss)
        return {"discriminator": loss}

    def disentangle(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Line 4: the generators learn by the losses of `feature_losses`."""
        discriminators = [self.model.emotion_discriminator, self.model.context_discriminator]
        with self.fabric.autocast(), no_gradient(discriminators):
            found = self.feature_losses(features, batch)
            loss = self.weighted(found)
        self.update("feat", loss)
        return found

    def feature_losses(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """g_e and g_c confuse the discriminator of the other's feature, and g_r reconstructs."""
        confusion = losses.confusion_loss(
            self.model.context_discriminator(features.emotion), self.model.emotion_discriminator(features.context)
        )
        rebuilt = self.reconstruct(features)
        return {"confusion": confusion, "reconstruction": losses.reconstruction_loss(rebuilt, features.base)}

    def weighted(self, found: dict[str, Tensor]) -> Tensor:
        """The losses of line 4 -> their sum as Eq. 8 weighs them."""
        return self.config.disentangle * (found["confusion"] + found["reconstruction"])

    def reconstruct(self, features: Features) -> Tensor:
        """-> (B, d, h, w) g_r of the features."""
        return self.model.reconstruction(features.emotion, features.context)

    def mean_logits(self, base: Tensor) -> Tensor:
        """(B, d, h, w) base features -> (B, E) logits, by the g_e that line 4 has just changed."""
        return self.model.classifier(self.model.emotion_generator(base))


class IernMethod(DisentanglementMethod):
    """The interventional network: centres of the context in line 4, and every stratum in lines 5 to 7."""

    name: ClassVar[Method] = "iern"
    model: IERN

    def __init__(self, model: IERN, config: AlgorithmConfig, fabric: Fabric, priors: LabelPriors | None = None) -> None:
        super().__init__(model, config, fabric, priors)
        if config.centres == "shared":
            model.confounders.data.copy_(model.confounders.data[:1].expand_as(model.confounders))
        self.context_means = ContextMeans.like(model.confounders.detach())

    def parameter_groups(self) -> dict[str, list[ParameterGroup]]:
        """Feat also moves the centres, at their own rate and without weight decay."""
        groups = super().parameter_groups()
        if self.config.centres != "frozen":
            rate = self.config.lr if self.config.centre_lr is None else self.config.centre_lr
            groups["feat"].append({"params": [self.model.confounders], "lr": rate, "weight_decay": 0.0})
        return groups

    def disentangle(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Line 4. The context features are also counted for `end_epoch`."""
        found = super().disentangle(features, batch)
        self.context_means.add(features.context, batch.confounder)
        return found

    def feature_losses(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """The same, and C follows the context features (Eq. 6)."""
        found = super().feature_losses(features, batch)
        if self.config.centres != "frozen":
            found["centre"] = losses.centre_loss(features.context, self._centres()[batch.confounder])
        return found

    def weighted(self, found: dict[str, Tensor]) -> Tensor:
        """The same, and lambda2 times Eq. 6."""
        loss = super().weighted(found)
        return loss + self.config.centre * found["centre"] if "centre" in found else loss

    def reconstruct(self, features: Features) -> Tensor:
        """The same, but with `balanced` statistics this pass does not move those of g_r."""
        still = self.config.statistics == "balanced"
        with frozen_statistics([self.model.reconstruction]) if still else contextlib.nullcontext():
            return super().reconstruct(features)

    def mean_logits(self, base: Tensor) -> Tensor:
        """(B, d, h, w) base features -> (B, E) mean logits of all strata (Eq. 9); g_r takes no gradient."""
        emotion = self.model.emotion_generator(base)
        logits = []
        with no_gradient([self.model.reconstruction]):
            for i, momentum in enumerate(self._stratum_momenta()):
                with statistics_momentum(self.model.reconstruction, momentum):
                    logits.append(self.model.intervene(emotion, i))
        return torch.stack(logits).mean(dim=0)

    @torch.no_grad()
    def end_epoch(self, epoch: int, last: bool = False) -> dict[str, float]:
        """Measure the centres, and with `centres: means` set them after the first epoch.

        After the `last` epoch the centres stay those that f_c was trained on. Returns `centre_distance`: the root mean
        square distance of C to the mean context features of the strata in this epoch.
        """
        counted = self.context_means.summed(self.fabric)
        seen, means = counted.count > 0, counted.means()
        centres = self.model.confounders
        distance = float((centres - means)[seen].square().mean().sqrt())
        if epoch == 0 and not last and self.config.centres == "means":
            centres[seen] = means[seen]
            self.optimisers["feat"].state.pop(centres, None)  # the moments belong to the centres' old place
        self.context_means = ContextMeans.like(counted.total)
        return {"centre_distance": distance}

    def state(self) -> dict[str, Any]:
        """The context features counted in this epoch."""
        self.context_means.gather(self.fabric)
        return {"context_means": (self.context_means.total, self.context_means.count)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue to count; the first process holds the sums of all."""
        means = ContextMeans(*(each.to(self.fabric.device) for each in state["context_means"]))
        self.context_means = means if self.fabric.global_rank == 0 else ContextMeans.like(means.total)

    def _centres(self) -> Tensor:
        """(N, d, h, w) centres of Eq. 6. A shared one is N equal ones with equal gradients, so they stay equal."""
        if self.config.centres == "shared":
            return self.model.confounders.mean(dim=0, keepdim=True).expand_as(self.model.confounders)
        return self.model.confounders

    def _stratum_momenta(self) -> list[float | None]:
        """BatchNorm's momentum in each stratum's pass of g_r; None: its own."""
        strata = len(self.model.config.strata)
        if self.config.statistics == "published":
            return [None] * strata
        # r <- (1 - a_k) r + a_k s_k for k = 1..N gives each s_k the weight m / N if a_k is this.
        m = batch_norms([self.model.reconstruction])[0].momentum or 0.1
        return [m / (strata - (strata - k) * m) for k in range(1, strata + 1)]


METHODS: dict[str, type[TrainingMethod]] = {
    kind.name: kind for kind in (BaselineMethod, DisentanglementMethod, IernMethod)
}
"""The training methods by the recipe's `model.method`."""


def training_method(
    model: Baseline, config: AlgorithmConfig, fabric: Fabric, priors: LabelPriors | None = None
) -> TrainingMethod:
    """The method that trains this network, with its optimisers."""
    return METHODS[model.method](model, config, fabric, priors)


def _detached(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: loss.detach() for name, loss in found.items()}
