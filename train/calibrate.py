"""Fit temperature and threshold on validation faces: `python train/calibrate.py ckpt.pt --data ROOT`."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from iern.runtime.errors import DataError, IernError, report
from iern.runtime.system.cpu_budget import cpu_budget
from iern.train.data.dataset import FaceDataset
from iern.train.data.manifest import LabelledFace, cut_validation, load_data
from iern.train.evaluation.bootstrap import drawn_units, intervals
from iern.train.evaluation.calibration import (
    FEWEST,
    TARGET_RISK,
    Curve,
    choose_threshold,
    fit_temperature,
    negative_log_likelihood,
    risk_coverage,
)
from iern.train.evaluation.metrics import Weights, calibration_error, rates
from iern.train.evaluation.predict import predict_strata
from iern.train.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from iern.train.network.iern import average_strata

EXAMPLES = f"""\
examples:
  calibrate.py runs/iern/ckpt.pt --data ROOT               then export: python export/to_trt.py runs/iern/ckpt.pt
  calibrate.py runs/iern/ckpt.pt --data ROOT --risk 0.05   fewer answers, of which fewer are wrong
  calibrate.py runs/iern/ckpt.pt --data ROOT --logit-adjustment 0.5
                                                           rare expressions are named more often
  calibrate.py runs/iern/ckpt.pt --data ROOT --mirrored    from now on the mirror image is looked at too

The faces are those that training validated on: the split `valid` of the manifest, or without one the same
share of the training faces. The temperature is that of the greatest likelihood of their labels. The threshold
is the smallest largest probability at which at most the share --risk of the answers is wrong (default
{TARGET_RISK:.0%}), over at least {FEWEST} faces. A face below it is called uncertain by the runtime.

A network answers rare expressions rarely, as its labels do. --logit-adjustment TAU takes TAU log P(expression), P
being the faces' shares here, from the classifier's bias: 1 answers as if all expressions were equally common,
0 (default) as they come. What accuracy and mean recall would be is printed for a few TAU.

--mirrored makes the model answer from the mean feature of the face and of its mirror image. It needs no training,
since training shows it mirrored faces; backbone and emotion generator work twice.

The checkpoint is replaced whole. It keeps all else, and the figures under "calibration" among its metrics,
which the exported file carries too. Run again, it starts afresh and not from what it found before.
"""

BATCH = 64
SPENT = ("train", "test", "all")
BIAS = "classifier.linear.bias"
ADJUSTMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""For which accuracy and mean recall are told."""
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Shares of the faces answered at which the curve is shown."""


def calibrate(
    path: Path,
    data: Path,
    split: str,
    risk: float,
    console: Console,
    adjustment: float = 0.0,
    mirrored: bool = False,
) -> tuple[dict[str, Any], Curve]:
    """Fit on a split of `data` and write into the checkpoint `path` -> the figures and the curve. Raises IernError."""
    if split in SPENT:
        raise DataError(
            f"the split {split!r} is what the model was trained on, or will be judged by, or holds both; temperature "
            "and threshold are to be fitted on other faces, as those of `valid`"
        )
    checkpoint = load_checkpoint(path)
    checkpoint = dataclasses.replace(checkpoint, config=dataclasses.replace(checkpoint.config, mirrored=mirrored))
    bias = _own_bias(checkpoint)
    checkpoint.weights[BIAS] = bias
    records = validation_faces(checkpoint, data, split)
    labels = torch.tensor([record.expression for record in records])
    unadjusted = _stratum_logits(checkpoint, records, console)
    average = checkpoint.config.answer
    shares = torch.bincount(labels, minlength=len(checkpoint.config.expressions)).double() / len(labels)
    taken = adjustment * _log_prior(shares, checkpoint.config.expressions) if adjustment else torch.zeros_like(shares)
    by_stratum = unadjusted - taken
    temperature = fit_temperature(by_stratum, labels, average)
    before, after = average_strata(by_stratum, average), average_strata(by_stratum / temperature, average)
    curve = risk_coverage(after.numpy(), labels.numpy())
    threshold = choose_threshold(curve, risk)
    figures = {
        "n": len(records),
        "split": split,
        "temperature": temperature,
        "threshold": threshold,
        "target_risk": risk,
        "logit_adjustment": adjustment,
        "mirrored": mirrored,
        "own_bias": bias.tolist(),
        "adjustments": _adjustments(unadjusted, labels, shares, average),
        **_compared(before, after, labels, threshold, drawn_units(records)),
    }
    # The logits of all strata pass through this bias: what it gains, the answer gains, whichever way it averages.
    checkpoint.weights[BIAS] = (bias.double() - taken).to(bias.dtype)
    metrics = {**checkpoint.metrics, "calibration": figures}
    save_checkpoint(
        dataclasses.replace(checkpoint, temperature=temperature, threshold=threshold, metrics=metrics), path
    )
    return figures, curve


def _own_bias(checkpoint: Checkpoint) -> Tensor:
    """(E,) the classifier's bias as training left it, whatever an earlier calibration made of it."""
    bias = checkpoint.weights[BIAS]
    earlier = checkpoint.metrics.get("calibration", {}).get("own_bias")
    return bias if earlier is None else torch.tensor(earlier, dtype=bias.dtype)


def _log_prior(shares: Tensor, expressions: Sequence[str]) -> Tensor:
    """(E,) shares of the expressions -> their logarithms. Raises DataError where an expression has no face."""
    absent = [name for name, share in zip(expressions, shares.tolist(), strict=True) if not share]
    if absent:
        raise DataError(
            f"none of the faces shows {', '.join(absent)}, so that it cannot be said how common that is; "
            "leave --logit-adjustment out, or calibrate on faces of every expression"
        )
    return shares.log()


def _adjustments(by_stratum: Tensor, labels: Tensor, shares: Tensor, average: str) -> list[dict[str, float]]:
    """What each of ADJUSTMENTS would make of accuracy and mean recall; nothing where an expression has no face."""
    found = []
    for tau in ADJUSTMENTS if shares.all() else ():
        accuracy, mean_recall, *_ = rates(
            average_strata(by_stratum - tau * shares.log(), average).numpy(), labels.numpy()
        )
        found.append({"logit_adjustment": tau, "accuracy": accuracy, "mean_recall": mean_recall})
    return found


def validation_faces(checkpoint: Checkpoint, data: Path, split: str) -> list[LabelledFace]:
    """The faces of a split; those that training cut off for validation, where the manifest has no such split."""
    faces = load_data(data, checkpoint.config.expressions)
    recipe = checkpoint.provenance.get("recipe")
    held = []
    if recipe and split == "valid" and not any(record.split == split for record in faces.records):
        held = cut_validation(faces, recipe["valid_share"], recipe["seed"])[1]
    return held or faces.split(split)


def _compared(before: Tensor, after: Tensor, labels: Tensor, threshold: float, units: Sequence[str]) -> dict[str, Any]:
    """Figures of the (n, E) probabilities before and after, and their intervals for this temperature and threshold."""
    truth, largest = labels.numpy(), after.max(dim=1).values.numpy()
    wrong = after.argmax(dim=1).numpy() != truth
    likelihoods = [negative_log_likelihood(each, labels).numpy() for each in (before, after)]

    def figures(weights: Weights) -> list[float]:
        answered = weights * (largest >= threshold)
        return [
            *(calibration_error(each.numpy(), truth, weights) for each in (before, after)),
            *(float(weights @ each / weights.sum()) for each in likelihoods),
            float(answered.sum() / weights.sum()),
            float(answered[wrong].sum() / answered.sum()) if answered.any() else math.nan,
        ]

    names = ("ece_before", "ece_after", "nll_before", "nll_after", "coverage", "risk")
    return {
        **dict(zip(names, figures(np.ones(len(truth))), strict=True)),
        "intervals": dict(zip(names, intervals(figures, units), strict=True)),
    }


def _stratum_logits(checkpoint: Checkpoint, records: list[LabelledFace], console: Console) -> Tensor:
    """(n, N, E) float64."""
    fabric = Fabric(accelerator="auto", devices=1)
    model = checkpoint.model().to(fabric.device).to(memory_format=torch.channels_last)
    faces = FaceDataset(records, model.config.input, model.config.strata)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{len(records)} faces", total=len(records))
        return predict_strata(model, faces, fabric, BATCH, on_batch=lambda count: bar.advance(task, count)).double()


def print_figures(figures: dict[str, Any], curve: Curve, console: Console) -> None:
    """What was fitted, and some points of the curve."""
    shown = Table(title="if only the likeliest answers were given")
    for heading in ("faces answered", "largest probability at least", "wrong among them"):
        shown.add_column(heading, justify="right")
    total = int(curve.answered[-1])
    for coverage in COVERAGES:
        place = int(np.searchsorted(curve.answered, coverage * total))
        share, lowest = curve.answered[place] / total, curve.lowest[place]
        shown.add_row(f"{share:.1%}", f"{lowest:.3f}", f"{curve.risk[place]:.1%}")
    console.print(shown)
    if figures["adjustments"]:
        console.print(_adjustment_table(figures))
    console.print(
        f"temperature {figures['temperature']:.3f}, on {figures['n']} faces:",
        f"  ECE {_percent(figures, 'ece_before')} before, {_percent(figures, 'ece_after')} after",
        f"  negative log-likelihood {figures['nll_before']:.4f} before, {figures['nll_after']:.4f} after",
        f"threshold {figures['threshold']:.3f}, below which a face is uncertain:",
        f"  answered {_percent(figures, 'coverage')} of the faces",
        f"  wrong {_percent(figures, 'risk')} of those, chosen as at most {figures['target_risk']:.1%}",
        sep="\n",
        highlight=False,
        markup=False,
    )


def _adjustment_table(figures: dict[str, Any]) -> Table:
    shown = Table(title=f"with --logit-adjustment (here {figures['logit_adjustment']:g})")
    for heading in ("tau", "accuracy", "mean recall"):
        shown.add_column(heading, justify="right")
    for row in figures["adjustments"]:
        shown.add_row(f"{row['logit_adjustment']:g}", f"{row['accuracy']:.1%}", f"{row['mean_recall']:.1%}")
    return shown


def _percent(figures: dict[str, Any], key: str) -> str:
    """`9.8% [8.9, 10.8]`: the figure with its 95 % interval."""
    interval = figures["intervals"][key]
    return f"{figures[key]:.1%}" + (f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="ckpt.pt of train/fit.py")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="the labelled faces")
    parser.add_argument("--split", default="valid", help="not train, test or all (default valid)")
    parser.add_argument(
        "--risk", type=_share, default=TARGET_RISK, metavar="R", help=f"in 0 to 1 (default {TARGET_RISK})"
    )
    parser.add_argument(
        "--logit-adjustment", type=_share, default=0.0, metavar="TAU", help="in 0 to 1 (default 0: as they come)"
    )
    parser.add_argument("--mirrored", action="store_true", help="answer from the face and its mirror image")
    options = parser.parse_args(arguments)
    torch.set_num_threads(cpu_budget())
    console = Console(soft_wrap=True)
    try:
        found = calibrate(
            options.checkpoint,
            options.data,
            options.split,
            options.risk,
            console,
            options.logit_adjustment,
            options.mirrored,
        )
        print_figures(*found, console)
        console.print(f"wrote {options.checkpoint}", highlight=False)
    except (IernError, OSError) as error:
        return report(error)
    except KeyboardInterrupt:
        return 130
    return 0


def _share(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, found {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
