"""Measure a model on labelled faces: `python train/evaluate.py MODEL --data ROOT --split test`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from iern.runtime.backends.onnx import open_session
from iern.runtime.imaging.preprocess import read_faces
from iern.runtime.intervention import stratum_disagreement
from iern.runtime.session import Predictions, concatenate
from iern.runtime.system.arguments import Parser
from iern.runtime.system.command import command
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.runtime.system.files import write_text
from iern.train.data.dataset import FaceDataset
from iern.train.data.manifest import LabelledFace, input_files, load_data
from iern.train.evaluation.bootstrap import resampling_units
from iern.train.evaluation.measure import FEW, LabelledPredictions, measure
from iern.train.evaluation.plots import check_drawable, save_confusion
from iern.train.evaluation.predict import predict_strata
from iern.train.network.checkpoint import load_checkpoint
from iern.train.network.iern import average_strata

EXAMPLES = """\
examples:
  evaluate.py runs/iern/ckpt.pt --data ROOT                     the test split
  evaluate.py runs/iern/ckpt.onnx --data ROOT --json test.json --figure test.png
  evaluate.py ckpt.onnx --data ROOT --split all                 every image, whatever its split

ROOT holds manifest.csv (path, expression, confounder, and optionally split and subject), or folders
<confounder>/<expression>/<image>. Of folders a fifth of the images, selected by a hash of the path, is the
test split.

Every figure has a 95 % interval, from 1,000 bootstrap draws with the same seed in every run. The draws are
of people if the manifest has subjects, else of images. The recall of an expression over fewer than 30 faces
is printed as a count, such as 5/22: right, all.

Keys of the JSON file, shares from 0 to 1:
  n, units             number of faces, and of people or images that the bootstrap draws from
  accuracy             pooled over images
  mean_recall          mean over the expressions; rare and common ones count alike
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
  confirmed            the same figures for the faces whose label has more than half of the votes;
                       expressions with a single vote do not count. Of FER+ these are the faces that its
                       own code keeps in mode "majority"; null without votes
  confusion            rows: true, columns: predicted; both in the order of
  expressions
"""

FACES_PER_BATCH = 64

ROWS = {
    "accuracy": "accuracy",
    "mean_recall": "mean recall",
    "ece": "ECE",
    "coverage": "not uncertain",
    "risk": "wrong among those",
    "auroc_disagreement": "AUROC, disagreement",
    "auroc_improbability": "AUROC, improbability",
}
"""Key of a figure -> its name in the table."""


@dataclass(frozen=True)
class EvaluatedModel:
    """The model to evaluate: a checkpoint or an exported file."""

    expressions: tuple[str, ...]
    temperature: float
    threshold: float
    predict: Callable[[list[LabelledFace], Callable[[int], None]], Predictions]
    """Labelled faces, and a function that is called with the number of faces of each batch -> predictions."""


def open_model(path: Path) -> EvaluatedModel:
    """Open a checkpoint or an exported ONNX file. Raises CheckpointError or ArtifactError."""
    return _from_onnx(path) if path.suffix.lower() == ".onnx" else _from_checkpoint(path)


def _from_checkpoint(path: Path) -> EvaluatedModel:
    checkpoint = load_checkpoint(path)
    fabric = Fabric(accelerator="auto", devices=1)
    model = checkpoint.model().to(fabric.device).to(memory_format=torch.channels_last)

    def predict(labelled: list[LabelledFace], on_batch: Callable[[int], None]) -> Predictions:
        faces = FaceDataset(labelled, model.config.input, model.config.strata)
        by_stratum = predict_strata(model, faces, fabric, FACES_PER_BATCH, on_batch=on_batch)
        probabilities = average_strata(by_stratum / checkpoint.temperature, model.config.answer)
        return Predictions(probabilities.numpy(), by_stratum.mean(dim=1).numpy(), by_stratum.numpy())

    return EvaluatedModel(model.config.expressions, checkpoint.temperature, checkpoint.threshold, predict)


def _from_onnx(path: Path) -> EvaluatedModel:
    session = open_session(path, max_batch=FACES_PER_BATCH)
    artifact = session.artifact

    def predict(labelled: list[LabelledFace], on_batch: Callable[[int], None]) -> Predictions:
        parts = []
        for start in range(0, len(labelled), FACES_PER_BATCH):
            part = labelled[start : start + FACES_PER_BATCH]
            parts.append(session(read_faces((face.path for face in part), artifact.input)))
            on_batch(len(part))
        return concatenate(parts)

    return EvaluatedModel(artifact.expressions, artifact.temperature, artifact.threshold, predict)


def evaluate(model: Path, data: Path, split: str, console: Console) -> dict[str, Any]:
    """-> the figures of `model` on a split of `data`, see `iern.train.evaluation.measure`. Raises IernError."""
    evaluated = open_model(model)
    labelled = load_data(data, evaluated.expressions).split(split)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{model.name} on {split}", total=len(labelled))
        predictions = evaluated.predict(labelled, lambda count: bar.advance(task, count))
    with_labels = LabelledPredictions(
        probabilities=predictions.probabilities,
        disagreement=stratum_disagreement(predictions.stratum_logits, evaluated.temperature),
        labels=np.array([face.expression for face in labelled]),
        strata=np.array([face.confounder for face in labelled]),
        units=np.array(resampling_units(labelled)),
        confirmed=np.array([bool(face.confirmed) for face in labelled]),
    )
    return measure(with_labels, evaluated.expressions, evaluated.threshold)


def print_figures(figures: dict[str, Any], console: Console) -> None:
    """Print the figures as two tables."""
    confusion = Table(title="true expression, predicted as")
    for heading in ("", *figures["expressions"], "n"):
        confusion.add_column(heading, justify="right")
    for name, row in zip(figures["expressions"], figures["confusion"], strict=True):
        confusion.add_row(name, *map(str, row), str(sum(row)))
    parts = {"all": figures, **figures["strata"]} | (
        {"confirmed": figures["confirmed"]} if figures["confirmed"] else {}
    )
    rates = Table(title=f"percent with 95 % intervals; under {FEW} faces, counts")
    for heading in ("", *parts):
        rates.add_column(heading, justify="right")
    rates.add_row("n", *(str(part["n"]) for part in parts.values()))
    for key, heading in ROWS.items():
        rates.add_row(heading, *(_with_interval(part[key], part["intervals"][key]) for part in parts.values()))
    rates.add_section()
    for name in figures["expressions"]:
        rates.add_row(f"recall, {name}", *(_recall(part, name) for part in parts.values()))
    console.print(confusion, rates)
    console.print(
        f"n {figures['n']}   accuracy {figures['accuracy']:.2%}   mean recall {figures['mean_recall']:.2%}   "
        f"ECE {figures['ece']:.2%}   uncertain below {figures['threshold']:.3f}",
        highlight=False,
    )


def _recall(figures: dict[str, Any], expression: str) -> str:
    right, total = figures["counts"][expression]
    if total < FEW:
        return f"{right}/{total}"
    return _with_interval(figures["recall"][expression], figures["intervals"]["recall"][expression])


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
    figures = evaluate(options.model, options.data, options.split, console)
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
    output = parser.add_argument_group("output")
    output.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    output.add_argument(
        "--figure", type=Path, metavar="FILE", help="write a plot of confusion matrix and recalls (.png, .pdf, .svg)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
