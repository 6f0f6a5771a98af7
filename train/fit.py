"""Train IERN, or one of its ablations: `python train/fit.py --config train/recipes/cartoon.yaml`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser, DefaultHelpFormatter
from lightning_fabric import Fabric

from iern.runtime.errors import IernError, TrainingError
from iern.runtime.system.cpu_budget import cpu_budget
from iern.train.cartoons.data_set import plan, write
from iern.train.data.conditions import STRATA
from iern.train.data.manifest import MANIFEST, check_trainable, cut_validation, load_data, verify_images
from iern.train.network.iern import build, count_parameters
from iern.train.network.weights import load_backbone
from iern.train.training.progress import Progress
from iern.train.training.recipe import Recipe
from iern.train.training.trainer import Interrupted, Trainer

DESCRIPTION = """Train IERN, or one of its ablations, and write OUT/ckpt.pt.

examples:
  python train/fit.py --config train/recipes/cartoon.yaml          no data needed
  python train/fit.py --config train/recipes/edge.yaml --data ROOT --out runs/edge
  python train/fit.py --config train/recipes/edge.yaml --data ROOT --out runs/edge --resume true
  python train/fit.py --config train/recipes/edge.yaml --data ROOT --model.method baseline --seed 1
  torchrun --nnodes 2 --nproc-per-node 4 ... train/fit.py --config ... --devices 4 --nodes 2

ROOT holds manifest.csv (path, expression, confounder; optionally split, subject and one column of votes per
expression), or folders <confounder>/<expression>/<image>. Next: python export/to_trt.py OUT/ckpt.pt"""

CARTOON_PEOPLE, CARTOON_SIZE = 150, 64
"""The set that `--data cartoon` draws: people, and pixels a side."""


def fit(recipe: Recipe) -> None:
    """Train as told; leaves `ckpt.pt` (best on validation) and `last.pt` in `recipe.out`."""
    torch.set_num_threads(max(1, cpu_budget() // recipe.devices))
    fabric = Fabric(
        accelerator=recipe.accelerator,
        devices=recipe.devices,
        num_nodes=recipe.nodes,
        precision=recipe.precision,
        strategy="ddp" if recipe.devices * recipe.nodes > 1 else "auto",
    )
    fabric.launch()
    _claim(recipe)
    progress = Progress(recipe.out, fabric.global_rank == 0)
    try:
        _fit(recipe, fabric, progress)
    finally:
        progress.close()


def _fit(recipe: Recipe, fabric: Fabric, progress: Progress) -> None:
    data = load_data(_root(recipe, fabric, progress), recipe.expressions, recipe.votes)
    training, validation = cut_validation(data, recipe.valid_share, recipe.seed)
    drawn = recipe.strata == "conditions"
    strata = STRATA if drawn else data.strata
    if recipe.model.method != "baseline":
        check_trainable(training, () if drawn else strata, data.expressions, data.root)
    if recipe.verify and not recipe.resume:
        progress.say(f"reading {len(training) + len(validation)} images once")
        _in_first_process(fabric, lambda: verify_images([*training, *validation]))
    torch.manual_seed(recipe.seed)
    model = build(recipe.model.config(data.expressions, strata))
    weights = "resumed" if recipe.resume else load_backbone(model, recipe.model.weights)
    model.to(fabric.device).to(memory_format=torch.channels_last)  # depthwise convolutions train faster so
    progress.say(
        f"{model.method}, preset {recipe.model.preset}: {count_parameters(model):,} parameters, backbone {weights}; "
        f"{len(training):,} training and {len(validation):,} validation faces, {len(data.expressions)} expressions, "
        f"strata {', '.join(strata)}; {fabric.world_size} process(es) on {fabric.device}"
    )
    trainer = Trainer(recipe, model, data, training, validation, {"backbone": weights}, fabric, progress)
    if recipe.resume:
        trainer.restore()
        progress.say(f"resumed at epoch {trainer.position.epoch + 1}, iteration {trainer.position.iteration}")
    trainer.run()
    progress.say(f"done: {recipe.out / 'ckpt.pt'}; next: python export/to_trt.py {recipe.out / 'ckpt.pt'}")


def _root(recipe: Recipe, fabric: Fabric, progress: Progress) -> Path:
    """The folder of the data; for `cartoon` it is drawn first, by one process, unless an earlier run has done so."""
    if str(recipe.data) != "cartoon":
        return recipe.data
    root = recipe.out.parent / "cartoon_faces"

    def draw() -> None:
        if not (root / MANIFEST).is_file():
            progress.say(f"drawing {CARTOON_PEOPLE} people into {root}")
            write(root, plan(CARTOON_PEOPLE), CARTOON_SIZE, {"identities": CARTOON_PEOPLE, "size": CARTOON_SIZE})

    _in_first_process(fabric, draw)
    return root


def _in_first_process(fabric: Fabric, work: Callable[[], None]) -> None:
    """Let one process work while the others wait; where it fails, every process ends with its error, not a timeout."""
    failure = None
    if fabric.global_rank == 0:
        try:
            work()
        except (IernError, OSError) as error:
            failure = str(error)
    failure = fabric.broadcast(failure)
    if failure is not None:
        raise TrainingError(failure)


def _claim(recipe: Recipe) -> None:
    """A run never overwrites another one, and never resumes what is not there."""
    last = recipe.out / "last.pt"
    if last.exists() and not recipe.resume:
        raise TrainingError(f"{last} exists: add --resume true to continue it, or give another --out")
    if recipe.resume and not last.exists():
        raise TrainingError(f"{last} does not exist, so there is nothing to resume; leave out --resume")


class _Formatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the line breaks of the examples, and jsonargparse's types and defaults."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = ArgumentParser(description=DESCRIPTION, formatter_class=_Formatter)
    parser.add_argument("--config", action="config", help="YAML file with any of the fields below")
    parser.add_class_arguments(Recipe, None, as_group=False)
    parsed = parser.parse_args(arguments)
    parsed.pop("config", None)
    recipe = parser.instantiate(parsed)
    try:
        fit(Recipe(**vars(recipe)))
    except IernError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted:
        print("stopped; the position is saved, continue with --resume true", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
