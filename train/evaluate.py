"""Measure a model on labelled faces: `python train/evaluate.py MODEL --data ROOT --split test`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from iern.runtime.artifact import Prior
from iern.runtime.intervention import stratum_disagreement
from iern.runtime.system.arguments import Parser, prior, value_of
from iern.runtime.system.command import command
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.runtime.system.files import write_text
from iern.train.data.manifest import input_files, load_data
from iern.train.evaluation.bootstrap import resampling_units
from iern.train.evaluation.evaluated_model import open_model, predict_images
from iern.train.evaluation.measure import FEW, LabelledPredictions, measure, measure_missed
from iern.train.evaluation.plots import check_drawable, save_confusion

EXAMPLES = """\
examples:
  evaluate.py runs/iern/ckpt.pt --data ROOT                     the test split
  evaluate.py runs/iern/ckpt.onnx --data ROOT --json test.json --figure test.png
  evaluate.py ckpt.onnx --data ROOT --split all                 every image, whatever its split
  evaluate.py ckpt.onnx --data ROOT --detect                    whole pictures instead of cropped faces

ROOT holds manifest.csv (path, expression, confounder, and optionally split and subject), or folders
<confounder>/<expression>/<image>. Of folders a fifth of the images, selected by a hash of the path, is the
test split.

With --detect, each picture goes through the face detector, and the largest face through the model, as in
the library (ExpressionRecognizer). The figures are of the faces that were found; pictures without one are
under `missed`. Images that are cropped faces work too, also small ones.

Every figure has a 95 % interval, from 1,000 bootstrap draws with the same seed in every run. The draws are
of people if the manifest has subjects, else of images. The recall of an expression over fewer than 30 faces
is printed as a count, such as 5/22: right, all.

Keys of the JSON file, shares from 0 to 1:
  n, units             number of faces, and of people or images that the bootstrap draws from
  accuracy             pooled over images
  mean_recall          mean over the expressions; rare and common ones count alike
  macro_f1             mean of F1 = 2 right / (true + predicted) over the expressions that have a face. For
                       predictions of other expressions there is no F1; they lower the recall of the true one
  ece                  expected calibration error, 15 bins. Noise adds to it, and more to each draw: over
                       few faces the interval is too high
  threshold            of the model: a face with a smaller largest probability is uncertain; 0: no face is
  coverage, risk       share of the faces that are not uncertain, and of wrong predictions among those
  auroc_disagreement   how well the disagreement of the strata (of the values of the confounder) separates
                       wrong predictions from right ones: area under the ROC curve, 0.5 is by chance; null
                       if nothing is wrong, nothing is right, or there is one stratum
  auroc_improbability  the same for 1 - the largest probability
  recall, counts       by expression: the rate, and [right, all]
  intervals            [low, high] under the same names; null for too few faces
  strata               the same figures for each stratum
  mean_over_sets       the mean over the strata, which count alike, of accuracy, mean_recall, macro_f1, coverage
                       and risk; null if a stratum lacks the figure. Each stratum is drawn by itself for the
                       intervals
  confirmed            the same figures for the faces whose label has more than half of the votes;
                       expressions with a single vote do not count. Of FER+ these are the faces that its
                       own code keeps in mode "majority"; null without votes
  confusion            rows: true, columns: predicted; both in the order of
  expressions
  missed               null without --detect. n of `pictures` have no face, `paths` are theirs, relative to
                       ROOT; accuracy_of_all: accuracy if they count as wrong; `strata`: the same for each. A
                       stratum without any face has no other figures
"""

ROWS = {
    "accuracy": "accuracy",
    "mean_recall": "mean recall",
    "macro_f1": "macro F1",
    "ece": "ECE",
    "coverage": "not uncertain",
    "risk": "wrong among those",
    "auroc_disagreement": "AUROC, disagreement",
    "auroc_improbability": "AUROC, improbability",
}
"""Key of a figure -> its name in the table."""

FIRST_MISSED = 5
"""Pictures without a face that are named on the screen; the JSON file has all."""


def evaluate(
    model: Path, data: Path, split: str, console: Console, detect: bool = False, prior: Prior | None = None
) -> dict[str, Any]:
    """-> the figures of `model` on a split of `data`, as --help explains them. Raises IernError."""
    evaluated = open_model(model, prior)
    labelled = load_data(data, evaluated.expressions).split(split)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{model.name} on {split}", total=len(labelled))
        predictions, found = predict_images(evaluated, labelled, detect, lambda count: bar.advance(task, count))
    labels = np.array([face.expression for face in labelled])
    strata = np.array([face.confounder for face in labelled])
    units = np.array(resampling_units(labelled))
    with_labels = LabelledPredictions(
        probabilities=predictions.probabilities,
        disagreement=stratum_disagreement(predictions.stratum_logits, evaluated.temperature),
        labels=labels[found],
        strata=strata[found],
        units=units[found],
        confirmed=np.array([bool(face.confirmed) for face in labelled])[found],
    )
    figures = measure(with_labels, evaluated.expressions, evaluated.threshold)
    if not detect:
        return {**figures, "missed": None}
    right = np.zeros(len(labelled), bool)
    right[found] = predictions.probabilities.argmax(axis=1) == labels[found]
    missed = [face.path for face, seen in zip(labelled, found, strict=True) if not seen]
    paths = [Path(os.path.relpath(path, data)).as_posix() for path in missed]
    return {**figures, "missed": {**measure_missed(right, found, strata, units), "paths": paths}}


def print_figures(figures: dict[str, Any], console: Console) -> None:
    """Print the figures as two tables."""
    confusion = Table(title="true expression, predicted as")
    for heading in ("", *figures["expressions"], "n"):
        confusion.add_column(heading, justify="right")
    for name, row in zip(figures["expressions"], figures["confusion"], strict=True):
        confusion.add_row(name, *map(str, row), str(sum(row)))
    parts = {"all": figures, **figures["strata"]}
    if figures["confirmed"]:
        parts["confirmed"] = figures["confirmed"]
    averaged = {"mean over sets": figures["mean_over_sets"]} if len(figures["strata"]) > 1 else {}
    rates = Table(title=f"percent with 95 % intervals; under {FEW} faces, counts")
    for heading in ("", *parts, *averaged):
        rates.add_column(heading, justify="right")
    rates.add_row("n", *(str(part["n"]) for part in parts.values()))
    for key, heading in ROWS.items():
        rates.add_row(heading, *(_figure(part, key) for part in (parts | averaged).values()))
    rates.add_section()
    for name in figures["expressions"]:
        rates.add_row(f"recall, {name}", *(_recall(part, name) for part in parts.values()))
    console.print(confusion, rates)
    console.print(
        f"n {figures['n']}   accuracy {figures['accuracy']:.2%}   mean recall {figures['mean_recall']:.2%}   "
        f"macro F1 {figures['macro_f1']:.2%}   ECE {figures['ece']:.2%}   uncertain below {figures['threshold']:.3f}",
        highlight=False,
    )
    if figures["missed"]:
        _print_missed(figures["missed"], console)


def _print_missed(missed: dict[str, Any], console: Console) -> None:
    """Print the number of pictures without a face, what they cost, and the first of them."""
    console.print(f"no face found in {missed['n']} of {missed['pictures']} pictures", highlight=False)
    if not missed["n"]:
        return
    for name, part in {"all": missed, **missed["strata"]}.items():
        console.print(
            f"  {name}: {part['n']} of {part['pictures']}; accuracy if they count as wrong: "
            f"{_figure(part, 'accuracy_of_all')}",
            highlight=False,
        )
    more = ", ..." if missed["n"] > FIRST_MISSED else ""
    console.print(f"  without a face: {', '.join(missed['paths'][:FIRST_MISSED])}{more}", highlight=False)


def _recall(figures: dict[str, Any], expression: str) -> str:
    right, total = figures["counts"][expression]
    if total < FEW:
        return f"{right}/{total}"
    return _with_interval(figures["recall"][expression], figures["intervals"]["recall"][expression])


def _figure(figures: dict[str, Any], key: str) -> str:
    return _with_interval(figures[key], figures["intervals"][key]) if key in figures else ""


def _with_interval(value: float | None, interval: list[float] | None) -> str:
    """`82.1 [81, 83]`, in percent."""
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + (f" [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]" if interval else "")


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    options = _parser().parse_args(argv)
    torch.set_num_threads(cpu_budget())
    console = Console(soft_wrap=True)
    refuse_conflicts(
        {"MODEL": options.model, "--data": input_files(options.data)},
        {"--json": options.json, "--figure": options.figure},
    )
    if options.figure:
        check_drawable(options.figure)
    figures = evaluate(options.model, options.data, options.split, console, options.detect, options.prior)
    print_figures(figures, console)
    if options.json:
        write_text(options.json, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
        console.print(f"wrote {options.json}", highlight=False)
    if options.figure:
        save_confusion(figures, options.figure)
        console.print(f"wrote {options.figure}", highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="ckpt.pt of train/fit.py, or an exported .onnx")
    faces = parser.add_argument_group("faces")
    faces.add_argument("--data", type=Path, required=True, metavar="ROOT", help="the labelled faces")
    faces.add_argument("--split", default="test", help="train, valid, test, or all (default test)")
    faces.add_argument(
        "--detect",
        action="store_true",
        help="the images are whole pictures: evaluate the largest face that the detector finds in each",
    )
    parser.add_argument_group("predictions").add_argument(
        "--prior",
        type=value_of(prior),
        metavar="RATES",
        help="how frequent the expressions are where the pictures are from: uniform, or rates as "
        "neutral=0.6,happiness=0.2, where the others share the rest (default: the rates that the model assumes)",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    output.add_argument(
        "--figure", type=Path, metavar="FILE", help="write a plot of confusion matrix and recalls (.png, .pdf, .svg)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
