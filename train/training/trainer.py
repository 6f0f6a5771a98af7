"""The training run: epochs of Algorithm 1, validated, checkpointed, and resumable to the same losses.

All randomness of an iteration is a function of (seed, epoch, iteration, process), and of a sample of (seed, epoch,
image): so a run continued anywhere, with any number of loader workers, goes on as if it had never stopped.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor

from iern.runtime.errors import CheckpointError, TrainingError
from iern.train.algorithm.algorithm1 import Algorithm1, Batch, average_statistics
from iern.train.algorithm.centres import ContextMeans
from iern.train.algorithm.distillation import load_teachers, taught
from iern.train.algorithm.mixup import mixup
from iern.train.data.augment import augmentation
from iern.train.data.dataset import FaceDataset
from iern.train.data.loader import face_loader
from iern.train.data.manifest import FaceData, LabelledFace
from iern.train.data.sampler import EpochBatches, balance, label_prior
from iern.train.evaluation.metrics import evaluate_answers
from iern.train.evaluation.predict import predict
from iern.train.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, versions
from iern.train.network.iern import Baseline
from iern.train.training.progress import Progress
from iern.train.training.recipe import Recipe

CHECK_EVERY = 10
"""Iterations between looks at the losses for NaN: a look waits for the device."""


@dataclass
class Position:
    """Where a run stands, and what it has seen."""

    epoch: int = 0
    iteration: int = 0
    """Done in this epoch."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """Losses summed over this epoch's iterations."""
    best: float = -math.inf
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry an epoch: losses, the centres' distance, validation figures."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM; the position was saved."""


class Trainer:
    """One run of a recipe on one model; `run` is the story."""

    def __init__(
        self,
        recipe: Recipe,
        model: Baseline,
        data: FaceData,
        training: list[LabelledFace],
        validation: list[LabelledFace],
        provenance: dict[str, Any],
        fabric: Fabric,
        progress: Progress,
    ) -> None:
        config = model.config
        self.recipe, self.model, self.fabric, self.progress = recipe, model, fabric, progress
        self.faces = FaceDataset(
            training,
            config.input,
            config.strata,
            augmentation(recipe.augment, config.image_size),
            recipe.seed,
            under_conditions=recipe.strata == "conditions",
        )
        self.held = FaceDataset(validation, config.input, config.strata)
        drawn = balance(training, recipe.resample, recipe.resample_strength)
        self.batches = EpochBatches(
            len(training), recipe.batch_size, recipe.seed, fabric.global_rank, fabric.world_size, drawn
        )
        named = recipe.data_name or data.root.resolve().name
        self.provenance = {**provenance, "data": named, "images": len(training), "seed": recipe.seed}
        prior = torch.from_numpy(label_prior(training, drawn))
        if recipe.strata == "conditions":  # drawn without a look at the face
            by_stratum = prior.expand(len(config.strata), -1)
        else:
            by_stratum = torch.from_numpy(label_prior(training, drawn, config.strata))
        self.algorithm = Algorithm1(model, recipe.algorithm, fabric, prior, by_stratum)
        self.teachers = load_teachers(recipe.teachers, config, fabric.device)
        self.ema = ModelEmaV3(model, decay=recipe.ema, use_warmup=True) if recipe.ema > 0 else None
        self.position = Position()

    @property
    def kept(self) -> Baseline:
        """The model that is validated and kept: the average where there is one."""
        return cast(Baseline, self.ema.module) if self.ema is not None else self.model

    def run(self) -> Position:
        """Train to the last epoch. Raises TrainingError on a NaN loss, Interrupted on Ctrl-C (after saving)."""
        with _stop_flag() as stop:
            while self.position.epoch < self.recipe.epochs:
                self._epoch(stop)
                self._end_epoch()
        return self.position

    def _epoch(self, stop: list[bool]) -> None:
        """The iterations of one epoch that are still to do."""
        place, recipe = self.position, self.recipe
        self.faces.epoch = self.batches.epoch = place.epoch
        self.batches.start = place.iteration
        self.model.train()
        loader = face_loader(self.faces, recipe.workers, batch_sampler=self.batches)
        with self.progress.epoch(place.epoch, recipe.epochs, len(self.batches), place.iteration) as advance:
            for faces, expression, confounder, _ in loader:
                self._iteration(faces, expression, confounder)
                saving = recipe.save_every > 0 and place.iteration % recipe.save_every == 0
                looking = place.iteration % CHECK_EVERY == 0 or place.iteration == len(self.batches)
                # One process stops at once; several have to agree, which is a message, so they do it now and then.
                stopping = stop[0] if self.fabric.world_size == 1 else looking and self._any_process(stop[0])
                if looking or saving or stopping:
                    self._refuse_nan()
                if looking:
                    advance(place.iteration, {k: float(v) / place.iteration for k, v in place.sums.items()})
                if saving or stopping:
                    self.save()
                if stopping:
                    raise Interrupted

    def _iteration(self, faces: Tensor, expression: Tensor, confounder: Tensor) -> None:
        place, device = self.position, self.fabric.device
        where = (self.recipe.seed, place.epoch, place.iteration, self.fabric.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(where).generate_state(1)[0]))
        rate = self.recipe.schedule.factor(place.epoch + place.iteration / len(self.batches), self.recipe.epochs)
        for optimiser in self.algorithm.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate
        batch = Batch(faces.to(device), expression.to(device), confounder.to(device))
        if self.recipe.mixup > 0:
            batch = mixup(batch, self.recipe.mixup)
        if self.teachers:
            with self.fabric.autocast():
                batch = taught(batch, self.teachers, self.recipe.teachers_share)
        for name, loss in self.algorithm.step(batch).items():
            place.sums[name] = place.sums.get(name, torch.zeros((), device=device)) + loss
        if self.ema is not None:
            self.ema.update(self.model, step=place.epoch * len(self.batches) + place.iteration)
        place.iteration += 1

    def _end_epoch(self) -> None:
        """Bring the processes together, validate, keep the best, and move on to the next epoch."""
        place = self.position
        last = place.epoch + 1 == self.recipe.epochs
        entry: dict[str, Any] = {"epoch": place.epoch, **self.algorithm.end_epoch(place.epoch, last)}
        means = {k: self.fabric.all_reduce(v, reduce_op="mean") for k, v in place.sums.items()}
        entry["losses"] = {name: float(cast(Tensor, total)) / len(self.batches) for name, total in means.items()}
        self._average_statistics()
        entry["valid"] = self.validate()
        place.history.append(entry)
        place.epoch, place.iteration, place.sums = place.epoch + 1, 0, {}
        score = entry["valid"][self.recipe.select] if entry["valid"] else float(place.epoch)
        if score > place.best:
            place.best = score
            self._write(self._checkpoint(self.kept, entry["valid"]), "ckpt.pt")
        self.save()
        self.progress.report(entry, best=score == place.best)

    def validate(self) -> dict[str, Any]:
        """Figures of the kept model on the validation records; empty where there are none."""
        if not len(self.held):
            return {}
        table = predict(self.kept, self.held, self.fabric, workers=self.recipe.workers)
        records = self.held.records
        labels, strata = [r.expression for r in records], [r.confounder for r in records]
        return evaluate_answers(table.numpy(), labels, strata, self.model.config.expressions)

    def _refuse_nan(self) -> None:
        """Every process must call it: they stop together, as one that stops alone leaves the others waiting."""
        wrong = [name for name, total in self.position.sums.items() if not torch.isfinite(total)]
        if self._any_process(bool(wrong)):
            place, kept = self.position, self.recipe.out / "last.pt"
            raise TrainingError(
                f"the loss is no longer a number (epoch {place.epoch + 1}, iteration {place.iteration}: "
                f"{', '.join(wrong) or 'in another process'}); lower --algorithm.lr, or use --precision 32-true; "
                + (f"the last good checkpoint is {kept}" if kept.exists() else "no checkpoint was written yet")
            )

    def _any_process(self, here: bool) -> bool:
        """Whether it is so in any process; every process must ask."""
        if self.fabric.world_size == 1:
            return here
        flag = torch.tensor(float(here), device=self.fabric.device)
        return bool(self.fabric.all_reduce(flag, reduce_op="max"))

    def _average_statistics(self) -> None:
        """The processes' BatchNorm statistics together, of the model and of its running average."""
        average_statistics(self.model, self.fabric)
        if self.ema is not None:
            average_statistics(self.ema.module, self.fabric)

    def save(self) -> None:
        """Write last.pt, from which `restore` continues; every process must call it."""
        place, means = self.position, self.algorithm.context_means
        self._average_statistics()
        place.sums = {k: cast(Tensor, self.fabric.all_reduce(v, reduce_op="mean")) for k, v in place.sums.items()}
        if means is not None:
            means.gather(self.fabric)
        scaler = self._scaler()
        training = {
            "recipe": self.recipe.identity(),
            "world_size": self.fabric.world_size,
            "epoch": place.epoch,
            "iteration": place.iteration,
            "sums": place.sums,
            "best": place.best,
            "history": place.history,
            "optimisers": {name: o.state_dict() for name, o in self.algorithm.optimisers.items()},
            "context_means": (means.total, means.count) if means is not None else None,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
        }
        checkpoint = self._checkpoint(self.model, place.history[-1]["valid"] if place.history else {})
        checkpoint.training = training
        self._write(checkpoint, "last.pt")

    def restore(self) -> None:
        """Continue from last.pt. Raises CheckpointError or TrainingError where it is absent or of another run."""
        path = self.recipe.out / "last.pt"
        checkpoint = load_checkpoint(path)
        state = checkpoint.training
        if state is None:
            raise CheckpointError(f"{path}: holds no training state, so it cannot be resumed; expected a last.pt")
        recipe = self.recipe.identity()
        changed = [key for key in recipe if state["recipe"].get(key) != recipe[key]]
        if changed or checkpoint.config != self.model.config:
            what = ", ".join(f"{k}: {state['recipe'].get(k)} then, {recipe[k]} now" for k in changed)
            raise TrainingError(
                f"{path}: is of another recipe ({what or 'other labels'}); use its own, or another --out"
            )
        if state["iteration"] and state["world_size"] != self.fabric.world_size:
            raise TrainingError(
                f"{path}: stands inside an epoch of {state['world_size']} processes, now there are "
                f"{self.fabric.world_size}; resume with the same --devices and --nodes"
            )
        self.model.load_state_dict(checkpoint.weights)
        for name, optimiser in self.algorithm.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        place, device = self.position, self.fabric.device
        place.epoch, place.iteration = state["epoch"], state["iteration"]
        place.best, place.history = state["best"], state["history"]
        self.provenance["backbone"] = checkpoint.provenance["backbone"]  # where the weights first came from
        place.sums = {name: total.to(device) for name, total in state["sums"].items()}
        if state["context_means"] is not None:
            means = ContextMeans(*(t.to(device) for t in state["context_means"]))
            self.algorithm.context_means = means if self.fabric.global_rank == 0 else ContextMeans.like(means.total)
        if state["scaler"] is not None:
            self._scaler().load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])

    def _scaler(self) -> Any:
        """The gradient scaler of 16-mixed, else None; Fabric has no public name for it."""
        return getattr(self.fabric._precision, "scaler", None)

    def _checkpoint(self, model: Baseline, metrics: dict[str, Any]) -> Checkpoint:
        made_with = versions("torch", "torchvision", "timm", "lightning-fabric", "numpy", "iern")
        return Checkpoint(
            config=model.config,
            weights=model.state_dict(),
            metrics={"valid": metrics} if metrics else {},
            provenance={
                **self.provenance,
                "licence": self.recipe.licence,
                "epoch": self.position.epoch,
                "recipe": self.recipe.identity(),
                "versions": made_with,
            },
        )

    def _write(self, checkpoint: Checkpoint, name: str) -> None:
        if self.fabric.global_rank == 0:
            save_checkpoint(checkpoint, self.recipe.out / name)
        self.fabric.barrier()


@contextmanager
def _stop_flag() -> Iterator[list[bool]]:
    """A flag that the first Ctrl-C or SIGTERM raises, to be looked at between iterations; the second one kills."""
    raised = [False]

    def on_signal(number: int, frame: object) -> None:
        raised[0] = True
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, on_signal)
    try:
        yield raised
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
