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
from iern.runtime.errors import IernError
from iern.runtime.imaging.preprocess import read_faces
from iern.runtime.intervention import stratum_disagreement
from iern.runtime.session import Predictions, joined
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.files import write_text
from iern.train.data.dataset import FaceDataset
from iern.train.data.manifest import LabelledFace, load_data
from iern.train.evaluation.bootstrap import drawn_units
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
<confounder>/<expression>/<image>, of which a fifth, chosen by a hash of the path, is the test split.

Every figure comes with its 95 % interval, from 1,000 bootstrap draws of the same seed in every run:
over people where the manifest has subjects, else over images. An expression's recall over fewer than
30 faces is no rate: it is shown as a count such as 5/22, right of all.

Keys of the JSON file, shares from 0 to 1:
  n, units             faces, and how many people or single faces the bootstrap draws from
  accuracy             pooled over images
  mean_recall          the mean over expressions, which rare ones count in alike
  ece                  expected calibration error, 15 bins; noise adds to it, and more in each draw:
                       over few faces its interval lies high
  threshold            of the model: faces of a smaller largest probability are uncertain, 0: none
  coverage, risk       share of the faces that are not uncertain, and of wrong answers among those
  auroc_disagreement   how well the disagreement of the strata tells wrong answers from right ones,
  auroc_improbability  beside 1 - the largest probability: area under the ROC curve, 0.5 for not at
                       all; null where nothing is wrong, nothing is right, or there is one stratum
  recall, counts       by expression: the rate, and [right, all]
  intervals            [low, high] under the same names; null where there are too few faces
  strata               the same of each stratum
  confirmed            the same of the faces for whose label more than half of the voters are, votes
                       that stand alone left out: of FER+'s faces those that its own code keeps in its
                       mode "majority"; null where nobody voted
  confusion            rows: true, columns: answered; both in the order of
  expressions
"""

BATCH = 64

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
class Recogniser:
    """A model under test, whatever its form."""

    expressions: tuple[str, ...]
    temperature: float
    threshold: float
    predict: Callable[[list[LabelledFace], Callable[[int], None]], Predictions]
    """Records, and what to call with the number of faces just done -> what the model says about them."""


def open_recogniser(path: Path) -> Recogniser:
    """A checkpoint of train/fit.py or a graph of export/to_trt.py. Raises CheckpointError or ArtifactError."""
    return _from_onnx(path) if path.suffix.lower() == ".onnx" else _from_checkpoint(path)


def _from_checkpoint(path: Path) -> Recogniser:
    checkpoint = load_checkpoint(path)
    fabric = Fabric(accelerator="auto", devices=1)
    model = checkpoint.model().to(fabric.device).to(memory_format=torch.channels_last)

    def judge(records: list[LabelledFace], on_batch: Callable[[int], None]) -> Predictions:
        faces = FaceDataset(records, model.config.input, model.config.strata)
        by_stratum = predict_strata(model, faces, fabric, BATCH, on_batch=on_batch)
        probabilities = average_strata(by_stratum / checkpoint.temperature, model.config.answer)
        return Predictions(probabilities.numpy(), by_stratum.mean(dim=1).numpy(), by_stratum.numpy())

    return Recogniser(model.config.expressions, checkpoint.temperature, checkpoint.threshold, judge)


def _from_onnx(path: Path) -> Recogniser:
    session = open_session(path, max_batch=BATCH)
    artifact = session.artifact

    def judge(records: list[LabelledFace], on_batch: Callable[[int], None]) -> Predictions:
        parts = []
        for start in range(0, len(records), BATCH):
            part = records[start : start + BATCH]
            parts.append(session(read_faces((record.path for record in part), artifact.input)))
            on_batch(len(part))
        return joined(parts)

    return Recogniser(artifact.expressions, artifact.temperature, artifact.threshold, judge)


def evaluate(model: Path, data: Path, split: str, console: Console) -> dict[str, Any]:
    """Figures of `model` on a split of `data`, see `iern.train.evaluation.measure`. Raises IernError."""
    recogniser = open_recogniser(model)
    records = load_data(data, recogniser.expressions).split(split)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{model.name} on {split}", total=len(records))
        found = recogniser.predict(records, lambda count: bar.advance(task, count))
    judged = LabelledPredictions(
        probabilities=found.probabilities,
        disagreement=stratum_disagreement(found.stratum_logits, recogniser.temperature),
        labels=np.array([record.expression for record in records]),
        strata=np.array([record.confounder for record in records]),
        units=np.array(drawn_units(records)),
        confirmed=np.array([bool(record.confirmed) for record in records]),
    )
    return measure(judged, recogniser.expressions, recogniser.threshold)


def print_figures(figures: dict[str, Any], console: Console) -> None:
    """The figures as two tables."""
    confusion = Table(title="true expression, answered as")
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="ckpt.pt or an exported .onnx")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="the labelled faces")
    parser.add_argument("--split", default="test", help="train, valid, test, or all (default test)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument(
        "--figure", type=Path, metavar="FILE", help="draw the confusion matrix and recalls (.png, .pdf)"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(cpu_budget())
    console = Console(soft_wrap=True)
    try:
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
    except (IernError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
