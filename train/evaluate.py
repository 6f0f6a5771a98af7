"""Measure a model on labelled faces: `python train/evaluate.py MODEL --data ROOT --split test`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from iern.runtime.artifact import Prior
from iern.runtime.intervention import stratum_disagreement
from iern.runtime.session import Predictions
from iern.runtime.system.arguments import Parser, prior, value_of
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.runtime.system.files import write_text
from iern.train.data.manifest import LabelledFace, input_files, load_data
from iern.train.evaluation.bootstrap import resampling_units
from iern.train.evaluation.comparison import compare
from iern.train.evaluation.evaluated_model import EvaluatedModel, open_model, predict_images
from iern.train.evaluation.measure import LabelledPredictions, measure, measure_missed
from iern.train.evaluation.plots import check_drawable, save_figure
from iern.train.evaluation.tables import print_figures

EXAMPLES = """\
examples:
  evaluate.py runs/iern/ckpt.pt --data ROOT                     the test split
  evaluate.py runs/iern/ckpt.onnx --data ROOT --json test.json --figure test.png
  evaluate.py ckpt.onnx --data ROOT --split all                 every image, whatever its split
  evaluate.py ckpt.onnx --data ROOT --detect                    whole pictures instead of cropped faces
  evaluate.py new.pt --against old.pt --data ROOT               two models side by side, with paired tests

ROOT holds manifest.csv (path, expression, confounder, and optionally split and subject), or folders
<confounder>/<expression>/<image>. Of folders a fifth of the images, selected by a hash of the path, is the
test split.

With --detect, each picture goes through the face detector, and the largest face through the model, as in
the library (ExpressionRecognizer). The figures are of the faces that were found; pictures without one are
under `missed`. Images that are cropped faces work too, also small ones.

Every figure has a 95 % interval, from 1,000 bootstrap draws with the same seed in every run. The draws are
of people if the manifest has subjects, else of images. The recall of an expression over fewer than 30 faces
is printed as a count, such as 5/22: right, all.

With --against, a second model sees the same faces. A difference is MODEL minus the second one. Its interval and its
p value are from draws of people (or images) that both models share. McNemar's exact test takes the faces that one
of them alone gets right; if the data has several faces of a person, its p value is too small, that of the draws is not.

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
  recall, precision    by expression: the share of its faces that is predicted so, and the share of its predictions
                       that is right; null without a face, or without a prediction
  f1                   by expression: 2 right / (true + predicted); null without a face
  counts               by expression: [right, all]
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
  against              null without --against. `model`: the second one; `figures`: its own, as above; numbers of
                       faces: `both_right`, `first_alone_right`, `second_alone_right`, `both_wrong`; `mcnemar_p` of
                       the two in the middle; of accuracy, mean_recall and macro_f1: the `difference`, its
                       `intervals` and its `bootstrap_p`, which is two-sided and at least 0.002
"""


def evaluate(
    model: Path,
    data: Path,
    split: str,
    console: Console,
    detect: bool = False,
    prior: Prior | None = None,
    against: Path | None = None,
) -> dict[str, Any]:
    """-> the figures of `model` on a split of `data`, as --help explains them. Raises IernError."""
    evaluated = open_model(model, prior)
    labelled = load_data(data, evaluated.expressions).split(split)
    other = None if against is None else open_model(against, prior).in_order(evaluated.expressions, str(against))
    compared = [evaluated] if other is None else [evaluated, other]
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(model.name, total=len(labelled))
        predicted, found = predict_images(compared, labelled, detect, lambda count: bar.advance(task, count))
    faces = [face for face, seen in zip(labelled, found, strict=True) if seen]
    predictions, *others = [_with_labels(each, own, faces) for each, own in zip(compared, predicted, strict=True)]
    figures = {**measure(predictions, evaluated.expressions, evaluated.threshold), "missed": None, "against": None}
    if detect:
        figures["missed"] = _missed(predictions, found, labelled, data)
    if other is not None:
        own = measure(others[0], other.expressions, other.threshold)
        figures["against"] = {"model": str(against), **compare(predictions, others[0]), "figures": own}
    return figures


def _with_labels(model: EvaluatedModel, predictions: Predictions, faces: Sequence[LabelledFace]) -> LabelledPredictions:
    """The predictions of a model for m faces, with their labels."""
    return LabelledPredictions(
        probabilities=predictions.probabilities,
        disagreement=stratum_disagreement(predictions.stratum_logits, model.temperature),
        labels=np.array([face.expression for face in faces]),
        strata=np.array([face.confounder for face in faces]),
        units=np.array(resampling_units(faces)),
        confirmed=np.array([bool(face.confirmed) for face in faces]),
    )


def _missed(
    predictions: LabelledPredictions, found: NDArray[np.bool_], labelled: Sequence[LabelledFace], data: Path
) -> dict[str, Any]:
    """The figures and paths of the pictures without a face."""
    right = np.zeros(len(labelled), bool)
    right[found] = predictions.probabilities.argmax(axis=1) == predictions.labels
    strata, units = np.array([face.confounder for face in labelled]), np.array(resampling_units(labelled))
    missed = [face.path for face, seen in zip(labelled, found, strict=True) if not seen]
    paths = [Path(os.path.relpath(path, data)).as_posix() for path in missed]
    return {**measure_missed(right, found, strata, units), "paths": paths}


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    options = _parser().parse_args(argv)
    torch.set_num_threads(cpu_budget())
    console = Console(soft_wrap=True)
    refuse_conflicts(
        {"MODEL": options.model, "--against": options.against, "--data": input_files(options.data)},
        {"--json": options.json, "--figure": options.figure},
    )
    if options.figure:
        check_drawable(options.figure)
    figures = evaluate(
        *(options.model, options.data, options.split, console),
        detect=options.detect,
        prior=options.prior,
        against=options.against,
    )
    print_figures(figures, console)
    if options.json:
        write_text(options.json, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
        console.print(f"wrote {options.json}", highlight=False)
    if options.figure:
        save_figure(figures, options.figure, options.model)
        console.print(f"wrote {options.figure}", highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="ckpt.pt of train/fit.py, or an exported .onnx")
    parser.add_argument("--against", type=Path, metavar="OTHER", help="a second model, to compare on the same faces")
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
        "--figure",
        type=Path,
        metavar="FILE",
        help="write a plot of confusion matrix and recalls for a paper (.pdf, .svg, .png)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
