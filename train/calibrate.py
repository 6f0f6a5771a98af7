"""Fit temperature and threshold on validation faces: `python train/calibrate.py ckpt.pt --data ROOT`."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from iern.runtime.errors import DataError
from iern.runtime.system.arguments import Parser
from iern.runtime.system.cpu_budget import cpu_budget
from iern.train.data.augment import augmentation
from iern.train.data.dataset import FaceDataset, RandomChanges
from iern.train.data.detections import find_faces
from iern.train.data.manifest import LabelledFace, cut_validation, load_data
from iern.train.evaluation.bootstrap import intervals, resampling_units
from iern.train.evaluation.calibration import (
    ALL_UNCERTAIN,
    FEWEST,
    TARGET_RISK,
    Curve,
    choose_threshold,
    fit_temperature,
    negative_log_likelihood,
    risk_coverage,
)
from iern.train.evaluation.calibration_tables import print_figures
from iern.train.evaluation.metrics import Weights, calibration_error, none_if_nan, rates
from iern.train.evaluation.predict import predict_strata
from iern.train.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from iern.train.network.iern import average_strata

EXAMPLES = f"""\
examples:
  calibrate.py runs/iern/ckpt.pt --data ROOT               then export: python export/to_trt.py runs/iern/ckpt.pt
  calibrate.py runs/iern/ckpt.pt --data ROOT --risk 0.05   fewer faces are certain, and fewer of them are wrong
  calibrate.py runs/iern/ckpt.pt --data ROOT --logit-adjustment 0.5
                                                           rare expressions are predicted more often
  calibrate.py runs/iern/ckpt.pt --data ROOT --mirrored    predict from the mirror image too

The faces are those of validation: the split `valid` of the manifest, or without one the share of the training
faces that training kept for validation. The temperature divides the logits; it is that of the greatest
likelihood of the labels. The threshold is the smallest one with at most the share --risk of wrong predictions
(default {TARGET_RISK:.0%}), over at least {FEWEST} faces. If the largest probability of a face is smaller,
the runtime calls the face uncertain. If no threshold reaches the share, the temperature is written all the
same, and a threshold of {ALL_UNCERTAIN:g}: every face is uncertain. --risk 1 names every face.

A network predicts rare expressions rarely. --logit-adjustment TAU subtracts TAU log P(expression) from the
classifier's bias; P is the share of the expression among these faces. At a temperature of 1, a TAU of 1 predicts
as if all expressions were equally common. 0 (default) changes nothing. The command prints accuracy and mean
recall for some TAU.

The checkpoint records how frequent the expressions are where its probabilities hold: P, or with an
adjustment rates that are more alike. If they are different where the model is used, give --prior to
export/to_trt.py or runtime/webcam.py.

--mirrored makes the model predict from the mean feature of the face and its mirror image. It needs no new
training, since training shows mirrored faces. Backbone and emotion generator then do twice the work.

--varied fits on faces as a camera meets them: half of them are cut out by the detector, as the runtime does it,
and all are changed at random as by the recipe's `augment: webcam` (crop, light, colour, focus, noise, codec,
occlusion). Temperature and threshold then hold for harder faces than those of a data set, and fewer faces get
a name.

The command replaces the checkpoint in one step. All else in it stays. The figures are written to its metrics
under "calibration"; the exported file has them too. A second run replaces the result of the first.
"""

FACES_PER_BATCH = 64
REFUSED_SPLITS = ("train", "test", "all")
BIAS = "classifier.linear.bias"
ADJUSTMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Values of --logit-adjustment for which accuracy and mean recall are reported."""


def calibrate(
    path: Path,
    data: Path,
    split: str,
    risk: float,
    console: Console,
    adjustment: float = 0.0,
    mirrored: bool = False,
    varied: bool = False,
) -> tuple[dict[str, Any], Curve]:
    """Fit on a split of `data` and write into the checkpoint `path` -> the figures and the curve. Raises IernError."""
    if split in REFUSED_SPLITS:
        raise DataError(
            f"the split {split!r} has faces that the model was trained on or will be tested on; fit temperature and "
            "threshold on other faces, such as those of `valid`"
        )
    checkpoint = load_checkpoint(path)
    checkpoint = dataclasses.replace(checkpoint, config=dataclasses.replace(checkpoint.config, mirrored=mirrored))
    bias = _trained_bias(checkpoint)
    checkpoint.weights[BIAS] = bias
    faces = validation_faces(checkpoint, data, split)
    labels = torch.tensor([face.expression for face in faces])
    unadjusted = _stratum_logits(checkpoint, faces, console, varied)
    average = checkpoint.config.answer
    shares = torch.bincount(labels, minlength=len(checkpoint.config.expressions)).double() / len(labels)
    subtracted = (
        adjustment * _log_prior(shares, checkpoint.config.expressions) if adjustment else torch.zeros_like(shares)
    )
    by_stratum = unadjusted - subtracted
    temperature = fit_temperature(by_stratum, labels, average)
    before, after = average_strata(by_stratum, average), average_strata(by_stratum / temperature, average)
    curve = risk_coverage(after.numpy(), labels.numpy())
    threshold = choose_threshold(curve, risk)
    prior = _prior(shares, adjustment + _adjustment_in_training(checkpoint), temperature)
    figures = {
        "n": len(faces),
        "split": split,
        "temperature": temperature,
        "threshold": threshold,
        "target_risk": risk,
        "logit_adjustment": adjustment,
        "mirrored": mirrored,
        "varied": varied,
        "own_bias": bias.tolist(),
        "prior": dict(zip(checkpoint.config.expressions, prior, strict=True)) if prior else {},
        "adjustments": _adjustments(unadjusted, labels, shares, average),
        **_before_and_after(before, after, labels, threshold, resampling_units(faces)),
    }
    # The bias is added to the logits of every stratum, so it shifts their mean and each softmax alike.
    checkpoint.weights[BIAS] = (bias.double() - subtracted).to(bias.dtype)
    metrics = {**checkpoint.metrics, "calibration": figures}
    save_checkpoint(
        dataclasses.replace(checkpoint, temperature=temperature, threshold=threshold, prior=prior, metrics=metrics),
        path,
    )
    return figures, curve


def _trained_bias(checkpoint: Checkpoint) -> Tensor:
    """-> (E,) the classifier's bias as training left it, without the change of an earlier calibration."""
    bias = checkpoint.weights[BIAS]
    earlier = checkpoint.metrics.get("calibration", {}).get("own_bias")
    return bias if earlier is None else torch.tensor(earlier, dtype=bias.dtype)


def _log_prior(shares: Tensor, expressions: Sequence[str]) -> Tensor:
    """(E,) shares of the expressions -> their logarithms. Raises DataError if an expression has no face."""
    absent = [name for name, share in zip(expressions, shares.tolist(), strict=True) if not share]
    if absent:
        raise DataError(
            f"none of the faces shows {', '.join(absent)}, so its share is not known; leave out "
            "--logit-adjustment, or calibrate on faces of every expression"
        )
    return shares.log()


def _prior(shares: Tensor, adjustment: float, temperature: float) -> tuple[float, ...]:
    """(E,) shares P -> the rates that the probabilities assume, E of them; none if an expression has no face.

    With z the logits and T the temperature, p = softmax(z / T) is for faces with the rates P. After an adjustment it is
    softmax((z - tau log P) / T), in proportion to p P^(-tau / T), and so for the rates P^(1 - tau / T), normalised.
    """
    if not shares.all():
        return ()
    rates = shares ** (1 - adjustment / temperature)
    return tuple((rates / rates.sum()).tolist())


def _adjustment_in_training(checkpoint: Checkpoint) -> float:
    """-> the --logit-adjustment that does what the recipe did.

    Epochs that draw the expressions in proportion to P^(1 - s) teach the network those rates instead of P. A loss that
    adds tau log of the rates teaches it tau times less of them. For cells instead of expressions this is an estimate.
    """
    recipe = checkpoint.provenance.get("recipe") or {}
    strength = recipe.get("resample_strength", 1.0) if recipe.get("resample", "none") != "none" else 0.0
    return strength + (1 - strength) * recipe.get("algorithm", {}).get("logit_adjustment", 0.0)


def _adjustments(by_stratum: Tensor, labels: Tensor, shares: Tensor, average: str) -> list[dict[str, float]]:
    """-> accuracy and mean recall with each of ADJUSTMENTS; nothing if an expression has no face."""
    found = []
    for tau in ADJUSTMENTS if shares.all() else ():
        accuracy, mean_recall, *_ = rates(
            average_strata(by_stratum - tau * shares.log(), average).numpy(), labels.numpy()
        )
        found.append({"logit_adjustment": tau, "accuracy": accuracy, "mean_recall": mean_recall})
    return found


def validation_faces(checkpoint: Checkpoint, data: Path, split: str) -> list[LabelledFace]:
    """-> the faces of a split. Without a split `valid` they are those that training kept for validation."""
    loaded = load_data(data, checkpoint.config.expressions)
    recipe = checkpoint.provenance.get("recipe")
    kept = []
    if recipe and split == "valid" and not any(face.split == split for face in loaded.records):
        kept = cut_validation(loaded, recipe["valid_share"], recipe["seed"])[1]
    return kept or loaded.split(split)


def _before_and_after(
    before: Tensor, after: Tensor, labels: Tensor, threshold: float, units: Sequence[str]
) -> dict[str, Any]:
    """(n, E) probabilities before and after -> their figures, and the intervals for this temperature and threshold."""
    truth, largest = labels.numpy(), after.max(dim=1).values.numpy()
    wrong = after.argmax(dim=1).numpy() != truth
    likelihoods = [negative_log_likelihood(each, labels).numpy() for each in (before, after)]

    def figures(weights: Weights) -> list[float]:
        certain = weights * (largest >= threshold)
        return [
            *(calibration_error(each.numpy(), truth, weights) for each in (before, after)),
            *(float(weights @ each / weights.sum()) for each in likelihoods),
            float(certain.sum() / weights.sum()),
            float(certain[wrong].sum() / certain.sum()) if certain.any() else math.nan,
        ]

    names = ("ece_before", "ece_after", "nll_before", "nll_after", "coverage", "risk")
    return {
        **dict(zip(names, map(none_if_nan, figures(np.ones(len(truth)))), strict=True)),
        "intervals": dict(zip(names, intervals(figures, units), strict=True)),
    }


def _stratum_logits(
    checkpoint: Checkpoint, labelled: list[LabelledFace], console: Console, varied: bool = False
) -> Tensor:
    """n faces, whole or `varied` -> (n, N, E) float64 logits."""
    fabric = Fabric(accelerator="auto", devices=1)
    model = checkpoint.model().to(fabric.device).to(memory_format=torch.channels_last)
    spec = model.config.input
    faces = FaceDataset(labelled, spec, model.config.strata)
    if varied:
        changes = RandomChanges(augmentation("webcam", spec.size))
        found = find_faces([face.path for face in labelled])
        faces = FaceDataset(labelled, spec, model.config.strata, changes, found, whole=0.5)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{len(labelled)} faces", total=len(labelled))
        return predict_strata(
            model, faces, fabric, FACES_PER_BATCH, on_batch=lambda count: bar.advance(task, count)
        ).double()


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    options = _parser().parse_args(argv)
    torch.set_num_threads(cpu_budget())
    console = Console(soft_wrap=True)
    figures, curve = calibrate(
        options.checkpoint,
        options.data,
        options.split,
        options.risk,
        console,
        options.logit_adjustment,
        options.mirrored,
        options.varied,
    )
    print_figures(figures, curve, console)
    console.print(f"wrote {options.checkpoint}", highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="ckpt.pt of train/fit.py")
    faces = parser.add_argument_group("faces")
    faces.add_argument("--data", type=Path, required=True, metavar="ROOT", help="the labelled faces")
    faces.add_argument("--split", default="valid", help="any split but train, test and all (default valid)")
    faces.add_argument("--varied", action="store_true", help="cut and change the faces as cameras and detectors do")
    threshold = parser.add_argument_group("threshold")
    threshold.add_argument(
        "--risk",
        type=_share,
        default=TARGET_RISK,
        metavar="R",
        help=f"largest share of wrong predictions, 0 to 1 (default {TARGET_RISK})",
    )
    changes = parser.add_argument_group("changes of the predictions")
    changes.add_argument(
        "--logit-adjustment",
        type=_share,
        default=0.0,
        metavar="TAU",
        help="predict rare expressions more often, 0 to 1 (default 0: no change)",
    )
    changes.add_argument("--mirrored", action="store_true", help="predict from the face and its mirror image")
    return parser


def _share(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, found {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
