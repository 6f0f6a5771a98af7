"""The training run: epochs of a training method, validated, checkpointed, and resumable to the same losses.

The randomness of an iteration is a function of (seed, epoch, iteration, process). That of a sample is a function of
(seed, epoch, image). So a run may be stopped anywhere and resumed with any number of loader workers: its losses are
those of a run without a stop.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor

from iern.runtime.errors import TrainingError
from iern.runtime.system.signals import on_signals
from iern.train.algorithm.batch import Batch
from iern.train.algorithm.distillation import distil, load_teachers
from iern.train.algorithm.methods import training_method
from iern.train.algorithm.mixup import mixup
from iern.train.algorithm.processes import average_statistics
from iern.train.data.loader import face_loader
from iern.train.evaluation.metrics import evaluate_predictions
from iern.train.evaluation.predict import predict
from iern.train.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, versions
from iern.train.network.iern import Baseline
from iern.train.training.progress import Progress
from iern.train.training.recipe import Recipe
from iern.train.training.resume import Position, resumable_state
from iern.train.training.run_data import RunFaces, run_data

CHECK_EVERY = 10
"""Iterations between checks of the losses for NaN. A check waits for the device."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM stopped the run; its position was saved."""


class Trainer:
    """One run of a recipe on one network; start reading at `run`."""

    def __init__(
        self, recipe: Recipe, model: Baseline, faces: RunFaces, backbone: str, fabric: Fabric, progress: Progress
    ) -> None:
        """`backbone` says in words where the first weights of the backbone come from."""
        self.recipe, self.model, self.fabric, self.progress = recipe, model, fabric, progress
        self.data = run_data(faces, recipe, model.config, fabric)
        self.faces = faces.listed()
        self.provenance: dict[str, Any] = {
            "backbone": backbone,
            "data": faces.name,
            "images": len(faces.training),
            "seed": recipe.seed,
        }
        self.method = training_method(model, recipe.algorithm, fabric, self.data.priors)
        self.teachers = load_teachers(recipe.teachers, model.config, fabric.device)
        self.ema = ModelEmaV3(model, decay=recipe.ema, use_warmup=True) if recipe.ema > 0 else None
        self.position = Position()

    @property
    def kept(self) -> Baseline:
        """The network that is validated and kept: the average of the weights if there is one."""
        return cast(Baseline, self.ema.module) if self.ema is not None else self.model

    def run(self) -> Position:
        """Train to the last epoch. Raises TrainingError on a NaN loss, Interrupted on Ctrl-C (after saving)."""
        with _stop_request() as stop:
            while self.position.epoch < self.recipe.epochs:
                self._epoch(stop)
                self._end_epoch()
        return self.position

    def _epoch(self, stop: threading.Event) -> None:
        """Train on the batches of this epoch that are left."""
        position, recipe, batches = self.position, self.recipe, self.data.batches
        self.data.training.epoch = batches.epoch = position.epoch
        batches.start = position.iteration
        self.model.train()
        loader = face_loader(self.data.training, recipe.workers, batch_sampler=batches)
        with self.progress.epoch(position.epoch, recipe.epochs, len(batches), position.iteration) as advance:
            for faces, expression, confounder, _ in loader:
                self._iteration(faces, expression, confounder)
                saving = recipe.save_every > 0 and position.iteration % recipe.save_every == 0
                checking = position.iteration % CHECK_EVERY == 0 or position.iteration == len(batches)
                # One process stops at once. Several must agree, which costs a message, so they ask at the checks only.
                stopping = (
                    stop.is_set() if self.fabric.world_size == 1 else checking and self._any_process(stop.is_set())
                )
                if checking or saving or stopping:
                    self._refuse_nan()
                if checking:
                    advance(position.iteration, {k: float(v) / position.iteration for k, v in position.sums.items()})
                if saving or stopping:
                    self.save()
                if stopping:
                    raise Interrupted

    def _iteration(self, faces: Tensor, expression: Tensor, confounder: Tensor) -> None:
        position, device = self.position, self.fabric.device
        source = (self.recipe.seed, position.epoch, position.iteration, self.fabric.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(source).generate_state(1)[0]))
        self._set_learning_rates()
        batch = Batch(faces.to(device), expression.to(device), confounder.to(device))
        if self.recipe.mixup > 0:
            batch = mixup(batch, self.recipe.mixup)
        if self.teachers:
            with self.fabric.autocast():
                batch = distil(batch, self.teachers, self.recipe.teachers_share)
        for name, loss in self.method.step(batch).items():
            position.sums[name] = position.sums.get(name, torch.zeros((), device=device)) + loss
        if self.ema is not None:
            self.ema.update(self.model, step=position.epoch * len(self.data.batches) + position.iteration)
        position.iteration += 1

    def _set_learning_rates(self) -> None:
        epoch = self.position.epoch + self.position.iteration / len(self.data.batches)
        factor = self.recipe.schedule.factor(epoch, self.recipe.epochs)
        for optimiser in self.method.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def _end_epoch(self) -> None:
        """Average over the processes, validate, keep the best, and go to the next epoch."""
        position, iterations = self.position, len(self.data.batches)
        last = position.epoch + 1 == self.recipe.epochs
        entry: dict[str, Any] = {"epoch": position.epoch, **self.method.end_epoch(position.epoch, last)}
        means = {k: self.fabric.all_reduce(v, reduce_op="mean") for k, v in position.sums.items()}
        entry["losses"] = {name: float(cast(Tensor, total)) / iterations for name, total in means.items()}
        self._average_statistics()
        entry["valid"] = self.validate()
        position.history.append(entry)
        position.epoch, position.iteration, position.sums = position.epoch + 1, 0, {}
        score = entry["valid"][self.recipe.select] if entry["valid"] else float(position.epoch)
        if score > position.best:
            position.best = score
            self._write(self._checkpoint(self.kept, entry["valid"]), "ckpt.pt")
        self.save()
        self.progress.report(entry, best=score == position.best)

    def validate(self) -> dict[str, Any]:
        """Figures of the kept network on the validation faces; empty if there are none."""
        if not len(self.data.validation):
            return {}
        table = predict(self.kept, self.data.validation, self.fabric, workers=self.recipe.workers)
        faces = self.data.validation.records
        labels, strata = [face.expression for face in faces], [face.confounder for face in faces]
        return evaluate_predictions(table.numpy(), labels, strata, self.model.config.expressions)

    def _refuse_nan(self) -> None:
        """Raise TrainingError if a loss is not a number. Every process must call it, so that all of them stop."""
        wrong = [name for name, total in self.position.sums.items() if not torch.isfinite(total)]
        if self._any_process(bool(wrong)):
            position, kept = self.position, self.recipe.out / "last.pt"
            raise TrainingError(
                f"the loss is no longer a number (epoch {position.epoch + 1}, iteration {position.iteration}: "
                f"{', '.join(wrong) or 'in another process'}); lower --algorithm.lr, or use --precision 32-true; "
                + (f"the last good checkpoint is {kept}" if kept.exists() else "no checkpoint was written yet")
            )

    def _any_process(self, here: bool) -> bool:
        """Whether it is true in any process. Every process must call it."""
        if self.fabric.world_size == 1:
            return here
        flag = torch.tensor(float(here), device=self.fabric.device)
        return bool(self.fabric.all_reduce(flag, reduce_op="max"))

    def _average_statistics(self) -> None:
        """Average BatchNorm's statistics over the processes: those of the model, and those of its average."""
        average_statistics(self.model, self.fabric)
        if self.ema is not None:
            average_statistics(self.ema.module, self.fabric)

    def save(self) -> None:
        """Write last.pt, from which `restore` continues. Every process must call it."""
        position = self.position
        self._average_statistics()
        position.sums = {k: cast(Tensor, self.fabric.all_reduce(v, reduce_op="mean")) for k, v in position.sums.items()}
        own = {"context_means": None, **self.method.state()}
        scaler = self._scaler()
        training = {
            "recipe": self.recipe.identity(),
            "faces": dataclasses.asdict(self.faces),
            "world_size": self.fabric.world_size,
            "epoch": position.epoch,
            "iteration": position.iteration,
            "sums": position.sums,
            "best": position.best,
            "history": position.history,
            "optimisers": {name: o.state_dict() for name, o in self.method.optimisers.items()},
            **own,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
        }
        checkpoint = self._checkpoint(self.model, position.history[-1]["valid"] if position.history else {})
        checkpoint.training = training
        self._write(checkpoint, "last.pt")

    def restore(self) -> None:
        """Continue from last.pt. Raises CheckpointError or TrainingError if it is absent or of another run."""
        path, position = self.recipe.out / "last.pt", self.position
        checkpoint = load_checkpoint(path)
        recipe, processes = self.recipe.identity(), self.fabric.world_size
        state = resumable_state(checkpoint, path, recipe, self.model.config, processes, self.faces)
        self.model.load_state_dict(checkpoint.weights)
        for name, optimiser in self.method.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.method.restore(state)
        position.epoch, position.iteration = state["epoch"], state["iteration"]
        position.best, position.history = state["best"], state["history"]
        position.sums = {name: total.to(self.fabric.device) for name, total in state["sums"].items()}
        self.provenance["backbone"] = checkpoint.provenance["backbone"]  # where its first weights came from
        if state["scaler"] is not None:
            self._scaler().load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])

    def _scaler(self) -> Any:
        """The gradient scaler of 16-mixed, else None. Fabric has no public name for it."""
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
def _stop_request() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets. The second one has its usual effect."""
    requested = threading.Event()
    with ExitStack() as handlers:

        def stop(_: int) -> None:
            requested.set()
            handlers.close()

        handlers.enter_context(on_signals(stop))
        yield requested
