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
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from iern.runtime.errors import IernError
from iern.runtime.files import write_text
from iern.runtime.images import read_image
from iern.runtime.preprocess import resize_face
from iern.runtime.session import open_session
from iern.runtime.threads import cpu_budget
from iern.train.checkpoint import load_checkpoint
from iern.train.data import FaceDataset, Record, load_data
from iern.train.figures import check_drawable, save_confusion
from iern.train.metrics import evaluate_answers
from iern.train.predict import predict

EXAMPLES = """\
examples:
  evaluate.py runs/iern/ckpt.pt --data ROOT                     the test split
  evaluate.py runs/iern/ckpt.onnx --data ROOT --json test.json --figure test.png
  evaluate.py ckpt.onnx --data ROOT --split all                 every image, whatever its split

ROOT holds manifest.csv (path, expression, confounder, and optionally split and subject), or folders
<confounder>/<expression>/<image>, of which a fifth, chosen by a hash of the path, is the test split.

Accuracy is pooled over images; mean recall is the mean over expressions, which rare ones count in
alike. ECE is the expected calibration error over 15 bins. The JSON file has the keys n, accuracy,
mean_recall, recall, ece, strata, confusion (rows: true, columns: answered) and expressions.
"""

BATCH = 64


@dataclass(frozen=True)
class Recogniser:
    """A model under test, whatever its form."""

    expressions: tuple[str, ...]
    answer: Callable[[list[Record], Callable[[int], None]], NDArray[np.float32]]
    """records, and what to call with the number of faces just done -> (n, E) probabilities"""


def open_recogniser(path: Path) -> Recogniser:
    """A checkpoint of train/fit.py or a graph of export/to_trt.py. Raises CheckpointError or ArtifactError."""
    return _from_onnx(path) if path.suffix.lower() == ".onnx" else _from_checkpoint(path)


def _from_checkpoint(path: Path) -> Recogniser:
    checkpoint = load_checkpoint(path)
    fabric = Fabric(accelerator="auto", devices=1)
    model = checkpoint.model().to(fabric.device).to(memory_format=torch.channels_last)

    def answer(records: list[Record], on_batch: Callable[[int], None]) -> NDArray[np.float32]:
        faces = FaceDataset(records, model.config.input, model.config.strata)
        return predict(model, faces, fabric, BATCH, on_batch=on_batch, temperature=checkpoint.temperature).numpy()

    return Recogniser(model.config.expressions, answer)


def _from_onnx(path: Path) -> Recogniser:
    session = open_session(path, max_batch=BATCH)
    spec = session.artifact.input

    def answer(records: list[Record], on_batch: Callable[[int], None]) -> NDArray[np.float32]:
        rows = []
        for start in range(0, len(records), BATCH):
            part = records[start : start + BATCH]
            faces = np.stack([resize_face(read_image(record.path), spec) for record in part])
            rows.append(session(faces).probabilities)
            on_batch(len(part))
        return np.concatenate(rows)

    return Recogniser(session.artifact.expressions, answer)


def evaluate(model: Path, data: Path, split: str, console: Console) -> dict[str, Any]:
    """Figures of `model` on a split of `data`, see `iern.train.metrics`. Raises IernError."""
    recogniser = open_recogniser(model)
    records = load_data(data, recogniser.expressions).split(split)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{model.name} on {split}", total=len(records))
        answers = recogniser.answer(records, lambda count: bar.advance(task, count))
    labels = [record.expression for record in records]
    return evaluate_answers(answers, labels, [record.confounder for record in records], recogniser.expressions)


def print_figures(figures: dict[str, Any], console: Console) -> None:
    """The figures as two tables, shares in percent."""
    console.print(
        f"n {figures['n']}   accuracy {figures['accuracy']:.2%}   mean recall {figures['mean_recall']:.2%}   "
        f"ECE {figures['ece']:.2%}",
        highlight=False,
    )
    confusion = Table(title="true expression, answered as")
    for heading in ("", *figures["expressions"], "n", "recall"):
        confusion.add_column(heading, justify="right")
    for name, row in zip(figures["expressions"], figures["confusion"], strict=True):
        recall = figures["recall"][name]
        confusion.add_row(name, *map(str, row), str(sum(row)), "-" if recall is None else f"{recall:.1%}")
    strata = Table(title="per stratum")
    for heading in ("stratum", "n", "accuracy", "mean recall"):
        strata.add_column(heading, justify="right")
    for name, values in figures["strata"].items():
        strata.add_row(name, str(values["n"]), f"{values['accuracy']:.1%}", f"{values['mean_recall']:.1%}")
    console.print(confusion, strata)


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
