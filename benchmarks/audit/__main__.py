"""Command: how exported models answer when light, colour, focus and the like change, and nothing else does."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks import RESULTS
from benchmarks.audit.answers import Model, ask, chosen, open_models
from benchmarks.audit.changes import CHANGES, Change
from benchmarks.audit.figures import RESAMPLES, figures
from benchmarks.audit.report import paths_beside, print_tables, write_results
from iern.runtime.errors import IernError, OutputError, report
from iern.runtime.system.cpu_budget import cpu_budget
from iern.train.data.manifest import load_data
from iern.train.network.checkpoint import versions

OUTPUT = RESULTS / "audit.json"
PACKAGES = ("iern", "numpy", "opencv-python", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "pycuda")
QUICK_FACES = 24

EXAMPLES = """\
examples:
  python -m benchmarks.audit iern.onnx --data ROOT                              one model on the test split
  python -m benchmarks.audit baseline.onnx iern.onnx iern.fp16.onnx iern.engine --data ROOT
                                                              side by side, each against the first
  python -m benchmarks.audit iern.onnx --data ROOT --split valid --faces 300    some faces, by a hash of their paths
  python -m benchmarks.audit iern.onnx --data ROOT --changes blur jpeg --json focus.json
  python -m benchmarks.audit iern.onnx --data ROOT --quick                      does it run? its numbers mean little

ROOT holds manifest.csv or folders, as for train/evaluate.py. Each face is changed as the data set
holds it, before it is brought to a model's input size, and each changed face is made once: all models
see the same. What a change draws (noise, directions) is seeded by the face's path below ROOT.
Time grows with faces x {variations} x models.

changes and their amounts, behind grade 0, which is the unchanged face:
{changes}

Written: FILE, and beside it the same as a page (.md) and a picture (.png), all at the end; Ctrl-C
before that writes nothing. The JSON file has the keys
  faces, units     their numbers; a unit is a subject, or a face without one: intervals resample units
  data, split, resamples, measured, quick, versions, expressions
  changes          a list of name, unit, what, amounts (grade 1 first)
  models           a list of name, sha256, precision, method, preset, strata (how many), provider, note,
    overall          accuracy and flip_rate as below, their means over all changes and grades from 1
    grades           change -> a list of figures, grade 0 first:
      accuracy       share of right first expressions: value, low, high (95 % bootstrap interval)
      flip_rate      share of faces with another first expression than unchanged: likewise
      minus_first    accuracy and flip_rate minus those of the first model, paired: likewise; the
                     first model has none
      shift          mean total variation distance to the probabilities of the unchanged face, 0 to 1
      disagreement   mean disagreement of the strata, 0 to 1, as the webcam loop's
      auroc          how well disagreement and uncertainty (1 - largest probability) tell wrong answers
                     from right ones, 0.5 by chance; null where it has no meaning: no wrong answers or
                     no right ones, or one stratum, which disagrees with none

Exit status: 0, or 1 with one line on stderr where something cannot be read or written, 2 for wrong
usage, 130 after Ctrl-C.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parse(argv)
    console = Console(soft_wrap=True)
    try:
        _check_writable(options.json)
        changes = [change for change in CHANGES if change.name in options.changes]
        with open_models(options.models, options.provider, options.threads) as models:
            record = audit(models, options.data, options.split, options.faces, changes)
        record = {"quick": options.quick, **record}
        write_results(record, options.json)
        print_tables(record, console)
        for path in paths_beside(options.json):
            console.print(f"wrote {path}", highlight=False)
    except (IernError, OSError) as error:
        return report(error)
    except KeyboardInterrupt:
        return 130
    return 0


def audit(
    models: Sequence[Model], root: Path, split: str, count: int | None, changes: Sequence[Change]
) -> dict[str, Any]:
    """Put the models to at most `count` faces under all changes -> what audit.json holds: plain types only."""
    expressions = models[0].session.artifact.expressions
    faces = chosen(load_data(root, expressions, votes=False).split(split), root, count)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{len(models)} models on {split}", total=len(faces))
        answers = ask(models, faces, changes, lambda done: bar.advance(task, done))
    units = [f"subject {record.subject}" if record.subject else f"face {name}" for name, record in faces]
    labels = np.array([record.expression for _, record in faces])
    measured = figures(answers, labels, units, changes)
    return {
        "faces": len(faces),
        "units": len(set(units)),
        "data": root.resolve().name,
        "split": split,
        "resamples": RESAMPLES,
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions(*PACKAGES),
        "expressions": list(expressions),
        "changes": [
            {"name": change.name, "unit": change.unit, "what": change.what, "amounts": list(change.amounts)}
            for change in changes
        ],
        "models": [{**_described(model), **found} for model, found in zip(models, measured, strict=True)],
    }


def _described(model: Model) -> dict[str, Any]:
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
    """Make the folder, and raise OutputError where a file cannot be put there: before the long work, not behind it."""
    for path in paths_beside(results):
        if path.is_dir():
            raise OutputError(f"{path}: is a folder, where a file is to be written; name another --json")
    try:
        results.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results.parent):
            pass
    except OSError as error:
        raise OutputError(f"{results.parent}: cannot be written to ({error.strerror}); name another --json") from error


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    listed = "\n".join(
        f"  {change.name:<15} {', '.join(f'{amount:g}' for amount in change.amounts)} {change.unit}"
        for change in CHANGES
    )
    variations = 1 + sum(len(change.amounts) for change in CHANGES)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.audit",
        description="Change the same faces in grades, and compare what exported models answer.",
        epilog=EXAMPLES.format(changes=listed, variations=variations),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    names = [change.name for change in CHANGES]
    add("models", nargs="+", type=Path, metavar="MODEL", help="exported .onnx or .engine files")
    add("--data", type=Path, required=True, metavar="ROOT", help="the labelled faces")
    add("--split", default="test", help="train, valid, test, or all (default: test)")
    add("--faces", type=_at_least_one, metavar="N", help="at most so many faces (default: all of the split)")
    add("--changes", nargs="+", choices=names, default=names, metavar="CHANGE", help="some of those below")
    add("--provider", choices=("auto", "cpu", "cuda", "tensorrt"), default="auto", help="where .onnx files run")
    add("--threads", type=_at_least_one, metavar="K", default=cpu_budget(), help="default: all this process may use")
    add("--json", type=_json_path, metavar="FILE", help="default: benchmarks/results/audit.json")
    add("--quick", action="store_true", help=f"{QUICK_FACES} faces, into a temporary folder unless --json is given")
    options = parser.parse_args(argv)
    if options.quick:
        options.faces = min(options.faces or QUICK_FACES, QUICK_FACES)
    if options.json is None:
        options.json = Path(tempfile.mkdtemp(prefix="audit-")) / OUTPUT.name if options.quick else OUTPUT
    return options


def _json_path(text: str) -> Path:
    if Path(text).suffix.lower() != ".json":
        raise argparse.ArgumentTypeError(f"expected a name that ends in .json, found {text!r}")
    return Path(text)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
