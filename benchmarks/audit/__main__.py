"""Command: compare exported models on faces whose light, colour, focus and the like change, one at a time."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

import numpy as np
from rich.console import Console
from rich.progress import Progress

from iern.audit.answers import Model, open_models, predict_variations, select_faces
from iern.audit.changes import CHANGES, Change
from iern.audit.figures import figures
from iern.audit.report import paths_beside, print_tables, write_report
from iern.runtime.errors import OutputError
from iern.runtime.system.arguments import Parser, path_with, positive
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.runtime.system.remedies import IN_CHECKOUT, ROOT
from iern.train.data.manifest import input_files, load_data
from iern.train.evaluation.bootstrap import UNIT_REPLICATES
from iern.train.network.checkpoint import versions

OUTPUT = ROOT / "benchmarks" / "results" / "audit.json" if IN_CHECKOUT else Path("audit.json")
PACKAGES = ("iern", "numpy", "opencv-python", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "pycuda")
QUICK_FACES = 24

EXAMPLES = """\
examples:
  python -m benchmarks.audit iern.onnx --data ROOT                              one model on the test split
  python -m benchmarks.audit baseline.onnx iern.onnx iern.fp16.onnx iern.engine --data ROOT
                                                              each compared with the first
  python -m benchmarks.audit iern.onnx --data ROOT --split valid --faces 300    300 faces, by a hash of their paths
  python -m benchmarks.audit iern.onnx --data ROOT --changes blur jpeg --json focus.json
  python -m benchmarks.audit iern.onnx --data ROOT --quick                      does it run? its numbers mean little

ROOT holds manifest.csv or folders, as for train/evaluate.py. Each face is changed as the data set
holds it, before it is resized to a model's input size. Each changed face is made once, so all models
see the same. The face's path below ROOT seeds the random values of a change (noise, directions).
Time grows with faces x {variations} x models.

changes and their amounts, after grade 0, which is the unchanged face:
{changes}

The command writes FILE, and beside it a page (.md) and a picture (.png), all at the end; after Ctrl-C
nothing is written. The JSON file has the keys
  faces, units     their numbers; a unit is a subject, or a face without one: intervals resample units
  data, split, resamples, measured, quick, versions, expressions
  changes          a list of name, unit, what, amounts (grade 1 first)
  models           a list of name, sha256, precision, method, preset, strata (how many), provider, note,
    overall          accuracy and flip_rate as below, means over all changes and grades from 1
    grades           change -> a list of figures, grade 0 first:
      accuracy       share of right first expressions: value, low, high (95 % bootstrap interval)
      flip_rate      share of faces with another first expression than unchanged, with interval
      minus_first    accuracy and flip_rate minus those of the first model, paired, with intervals;
                     the first model has none
      shift          mean total variation distance to the probabilities of the unchanged face, 0 to 1
      disagreement   mean disagreement of the strata, 0 to 1, as the webcam loop's
      auroc          how well disagreement and uncertainty (1 - largest probability) separate wrong from
                     right predictions, 0.5 by chance; null if there are no wrong ones, no right ones,
                     or only one stratum, which has no disagreement

Exit status: 0, or 1 with one line on stderr if a file cannot be read or written, 2 for wrong usage,
130 after Ctrl-C.
"""


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    console = Console(soft_wrap=True)
    refuse_conflicts(
        {"MODEL": options.models, "--data": input_files(options.data)},
        dict(zip(("--json", "its page", "its picture"), paths_beside(options.json), strict=True)),
    )
    _check_writable(options.json)
    changes = [change for change in CHANGES if change.name in options.changes]
    with open_models(options.models, options.provider, options.threads) as models:
        results = audit(models, options.data, options.split, options.faces, changes)
    results = {"quick": options.quick, **results}
    write_report(results, options.json)
    print_tables(results, console)
    for path in paths_beside(options.json):
        console.print(f"wrote {path}", highlight=False)


def audit(
    models: Sequence[Model], root: Path, split: str, count: int | None, changes: Sequence[Change]
) -> dict[str, Any]:
    """Run the models on at most `count` faces with all changes. Returns the content of audit.json: plain types only."""
    expressions = models[0].session.artifact.expressions
    faces = select_faces(load_data(root, expressions, votes=False).split(split), root, count)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{len(models)} models on {split}", total=len(faces))
        answers = predict_variations(models, faces, changes, lambda done: bar.advance(task, done))
    units = [f"subject {record.subject}" if record.subject else f"face {name}" for name, record in faces]
    labels = np.array([record.expression for _, record in faces])
    measured = figures(answers, labels, units, changes)
    return {
        "faces": len(faces),
        "units": len(set(units)),
        "data": root.resolve().name,
        "split": split,
        "resamples": UNIT_REPLICATES,
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions(*PACKAGES),
        "expressions": list(expressions),
        "changes": [
            {"name": change.name, "unit": change.unit, "what": change.what, "amounts": list(change.amounts)}
            for change in changes
        ],
        "models": [{**_description(model), **found} for model, found in zip(models, measured, strict=True)],
    }


def _description(model: Model) -> dict[str, Any]:
    artifact = model.session.artifact
    return {
        "name": model.name,
        "sha256": model.sha256,
        "precision": model.precision,
        "method": artifact.method,
        "preset": artifact.preset,
        "strata": len(artifact.strata),
        "provider": model.session.provider,
        "note": model.session.note,
    }


def _check_writable(results: Path) -> None:
    """Make the folder. Raises OutputError, before the long work starts, if a file cannot be written there."""
    for path in paths_beside(results):
        if path.is_dir():
            raise OutputError(f"{path} is a folder, expected a file to write; pass another --json")
    try:
        results.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results.parent):
            pass
    except OSError as error:
        raise OutputError(f"{results.parent} cannot be written to ({error.strerror}); pass another --json") from error


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    listed = "\n".join(
        f"  {change.name:<15} {', '.join(f'{amount:g}' for amount in change.amounts)} {change.unit}"
        for change in CHANGES
    )
    variations = 1 + sum(len(change.amounts) for change in CHANGES)
    parser = Parser(
        prog="python -m benchmarks.audit",
        description="Change the same faces in grades, and compare the predictions of exported models.",
        epilog=EXAMPLES.format(changes=listed, variations=variations),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    names = [change.name for change in CHANGES]
    add = parser.add_argument_group("what is compared").add_argument
    add("models", nargs="+", type=Path, metavar="MODEL", help="exported .onnx or .engine files")
    add("--data", type=Path, required=True, metavar="ROOT", help="the labelled faces")
    add("--quick", action="store_true", help=f"{QUICK_FACES} faces, into a temporary folder unless --json is given")
    add("--split", default="test", help="train, valid, test, or all (default: test)")
    add("--faces", type=positive, metavar="N", help="at most N faces (default: all of the split)")
    add(
        "--changes",
        nargs="+",
        choices=names,
        default=names,
        metavar="CHANGE",
        help="changes from below (default: all)",
    )
    add = parser.add_argument_group("where the models run").add_argument
    add(
        "--provider",
        choices=("auto", "cpu", "cuda", "tensorrt"),
        default="auto",
        help="for .onnx files (default: %(default)s)",
    )
    add("--threads", type=positive, metavar="K", default=cpu_budget(), help="default: all this process may use")
    add = parser.add_argument_group("what is written").add_argument
    add("--json", type=path_with((".json",)), metavar="FILE", help=f"default: {OUTPUT}")
    options = parser.parse_args(argv)
    if options.quick:
        options.faces = min(options.faces or QUICK_FACES, QUICK_FACES)
    if options.json is None:
        options.json = Path(tempfile.mkdtemp(prefix="audit-")) / OUTPUT.name if options.quick else OUTPUT
    return options


if __name__ == "__main__":
    sys.exit(main())
