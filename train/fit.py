"""Train IERN, or one of its ablations: `python train/fit.py --config train/recipes/cartoon.yaml`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from iern.runtime.system.command import INTERRUPTED, command

import torch
from jsonargparse import DefaultHelpFormatter, set_parsing_settings
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from iern.runtime.errors import TrainingError
from iern.runtime.imaging.detection import Detection
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.runtime.system.remedies import run_script
from iern.train.algorithm.methods import METHODS
from iern.train.cartoons.data_set import plan, write
from iern.train.data.conditions import STRATA
from iern.train.data.detections import find_faces
from iern.train.data.manifest import (
    MANIFEST,
    FaceData,
    LabelledFace,
    check_trainable,
    cut_validation,
    input_files,
    load_data,
    verify_images,
)
from iern.train.network.checkpoint import load_checkpoint
from iern.train.network.config import ModelConfig
from iern.train.network.iern import build, count_parameters
from iern.train.network.weights import load_backbone
from iern.train.training.first_process import LONGEST_WAIT, in_first_process
from iern.train.training.progress import Progress
from iern.train.training.recipe import Recipe
from iern.train.training.recipe_parser import RecipeParser
from iern.train.training.resume import resumable_state
from iern.train.training.run_data import RunFaces
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

CARTOON_PEOPLE = 150
CARTOON_SIZE = 64
"""Side of a drawn face, pixels."""


def fit(recipe: Recipe) -> None:
    """Train by a recipe, and write `ckpt.pt` (best on validation) and `last.pt` into `recipe.out`."""
    refuse_conflicts(
        {
            "--data": input_files(recipe.data),
            "--more_data": [file for root in recipe.more_data for file in input_files(root)],
            "--model.weights": None if recipe.resume else Path(recipe.model.weights),
            "--teachers": recipe.teachers,
        },
        {"--out": [recipe.out / "ckpt.pt", recipe.out / "last.pt"]},
    )
    torch.set_num_threads(max(1, cpu_budget() // recipe.devices))
    fabric = Fabric(
        accelerator=recipe.accelerator,
        devices=recipe.devices,
        num_nodes=recipe.nodes,
        precision=recipe.precision,
        strategy=DDPStrategy(timeout=LONGEST_WAIT) if recipe.devices * recipe.nodes > 1 else "auto",
    )
    fabric.launch()
    _check_out(recipe)
    progress = Progress(recipe.out, fabric.global_rank == 0)
    try:
        _fit(recipe, fabric, progress)
    finally:
        progress.close()


def _fit(recipe: Recipe, fabric: Fabric, progress: Progress) -> None:
    data = _load(recipe, _root(recipe, fabric, progress), progress)
    training, validation = cut_validation(data, recipe.valid_share, recipe.seed)
    drawn = recipe.strata == "conditions"
    strata = STRATA if drawn else data.strata
    if METHODS[recipe.model.method].needs_strata:
        check_trainable(training, () if drawn else strata, data.expressions, data.root)
    config = recipe.model.config(data.expressions, strata)
    faces = RunFaces(recipe.data_name or data.root.resolve().name, training, validation, data.root)
    if recipe.resume and not _goes_on(recipe, config, faces, fabric, progress):
        _print_next(recipe, progress)
        return
    if recipe.verify and not recipe.resume:
        progress.print(f"reading {len(training) + len(validation)} images once")
        in_first_process(fabric, lambda: verify_images([*training, *validation]))
    torch.manual_seed(recipe.seed)
    model = build(config)
    weights = "resumed" if recipe.resume else load_backbone(model, recipe.model.weights)
    model.to(fabric.device).to(memory_format=torch.channels_last)  # trains depthwise convolutions faster
    progress.print(
        f"{model.method}, preset {recipe.model.preset}: {count_parameters(model):,} parameters, backbone {weights}; "
        f"{len(training):,} training and {len(validation):,} validation faces, {len(data.expressions)} expressions, "
        f"strata {', '.join(strata)}; {fabric.world_size} process(es) on {fabric.device}"
    )
    faces = dataclasses.replace(faces, detections=_detections(recipe, training, fabric, progress))
    trainer = Trainer(recipe, model, faces, weights, fabric, progress)
    if recipe.resume:
        trainer.restore()
        progress.print(f"resumed at epoch {trainer.position.epoch + 1}, iteration {trainer.position.iteration}")
    trainer.run()
    _print_next(recipe, progress)


def _goes_on(recipe: Recipe, config: ModelConfig, faces: RunFaces, fabric: Fabric, progress: Progress) -> bool:
    """Whether last.pt has epochs left; prints its length. It is called before the long work on the images.

    Raises CheckpointError or TrainingError if last.pt cannot be continued.
    """
    path = recipe.out / "last.pt"
    state = resumable_state(load_checkpoint(path), path, recipe.identity(), config, fabric.world_size, faces.listed())
    before, epochs = state["recipe"]["epochs"], recipe.epochs
    if epochs > before:
        progress.print(f"lengthened from {before} to {epochs} epochs; the schedule now follows {epochs}")
    if state["epoch"] >= epochs:
        progress.print(f"the run has finished its {epochs} epochs; --resume true --epochs N continues it to N")
    return bool(state["epoch"] < epochs)


def _print_next(recipe: Recipe, progress: Progress) -> None:
    """Print where the result is, and the command for it."""
    checkpoint = recipe.out / "ckpt.pt"
    progress.print(f"done: {checkpoint}; next: {run_script('export/to_trt.py')} {checkpoint}")


def _load(recipe: Recipe, root: Path, progress: Progress) -> FaceData:
    """The faces of the data, with the training faces of `more_data`. Raises DataError."""
    data = load_data(root, recipe.expressions, recipe.votes, progress.print)
    more = [load_data(folder, data.expressions, recipe.votes, progress.print) for folder in recipe.more_data]
    records = [*data.records, *(face for each in more for face in each.split("train"))]
    return dataclasses.replace(data, records=tuple(records))


def _detections(
    recipe: Recipe, training: Sequence[LabelledFace], fabric: Fabric, progress: Progress
) -> Sequence[Detection | None] | None:
    """Where the detector finds the training faces; None if all of them are used whole. One process runs it for all."""
    if recipe.whole_share >= 1:
        return None

    def find() -> list[Detection | None]:
        with progress.count("finding the faces of training images", len(training)) as advance:
            return find_faces([face.path for face in training], advance)

    found = in_first_process(fabric, find)
    missed = found.count(None)
    progress.print(f"the detector finds a face in {len(found) - missed:,} of {len(found):,} training images")
    return found


def _root(recipe: Recipe, fabric: Fabric, progress: Progress) -> Path:
    """The folder of the data. For `cartoon` one process draws it first, unless an earlier run has done so."""
    if str(recipe.data) != "cartoon":
        return recipe.data
    root = recipe.out.parent / "cartoon_faces"

    def draw() -> None:
        if not (root / MANIFEST).is_file():
            progress.print(f"drawing {CARTOON_PEOPLE} people into {root}")
            write(root, plan(CARTOON_PEOPLE), CARTOON_SIZE, {"identities": CARTOON_PEOPLE, "size": CARTOON_SIZE})

    in_first_process(fabric, draw)
    return root


def _check_out(recipe: Recipe) -> None:
    """Refuse to overwrite another run, and to resume one that does not exist. Raises TrainingError."""
    last = recipe.out / "last.pt"
    if last.exists() and not recipe.resume:
        raise TrainingError(f"{last} exists: add --resume true to continue it, or set another --out")
    if recipe.resume and not last.exists():
        raise TrainingError(f"{last} does not exist, so there is nothing to resume; leave out --resume")


class _Formatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the line breaks of the examples, and adds jsonargparse's types and defaults."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # the help of a field is the comment under it
    parser = RecipeParser(description=DESCRIPTION, formatter_class=_Formatter)
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with any of the fields below, or the name of a recipe of this package, such as cartoon or edge",
    )
    parser.add_class_arguments(Recipe, None, as_group=False)
    parsed = parser.parse_args(argv)
    parsed.pop("config", None)
    recipe = parser.instantiate(parsed)
    try:
        fit(Recipe(**vars(recipe)))
    except Interrupted:
        print("stopped; the position is saved, continue with --resume true", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
