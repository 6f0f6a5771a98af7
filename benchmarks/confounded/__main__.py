"""The paper's claim on real faces: does IERN answer better where an expression meets a condition it never had?

    python -m benchmarks.confounded --data ROOT                                   Table 1 over capture conditions
    python -m benchmarks.confounded --data ROOT --protocol table3                 with a tenth of the held-out cells
    python -m benchmarks.confounded --data ROOT --protocol origin --origin lfw    leave one origin out
    python -m benchmarks.confounded --data ROOT --protocol camera --origin lfw    what the strata should be for that

Finished runs are kept, so the same command goes on where it stopped. `table1` puts every training face of one origin
under one of three conditions (conditions.py): each expression is seen under two, with as many faces under each, and
held out under the third; a seed is a fold, so three seeds hold every cell out once. Tested are the faces of the split
under every condition: `i.d.` the seen cells, `o.o.d.` those held out. confounded_methods.py says what the methods
are; they share backbone, augmentation, faces, number of iterations and learning rates, and the last epoch is kept, so
nothing is chosen on any tested or held-out face. `input` and `input_mended` alone see the held-out cells in full.

The results are what came out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console

from benchmarks import RESULTS
from benchmarks.common.resumable import continued
from benchmarks.confounded.methods import (
    BATCH,
    INTERVENED,
    METHODS,
    SIZE,
    STRATA_OF,
    TRANSFERRED,
    method_recipe,
    trained_parameters,
)
from benchmarks.confounded.protocols import LEAVE_ONE_OUT, PROTOCOLS, Conditions, Protocol, make_protocol, write_faces
from benchmarks.confounded.report import write_report
from iern.runtime.errors import IernError, report
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.files import write_text
from iern.train.data.dataset import FaceDataset
from iern.train.data.manifest import load_data
from iern.train.evaluation.predict import predict
from iern.train.fit import fit
from iern.train.network.checkpoint import load_checkpoint
from iern.train.network.iern import Baseline
from iern.train.probe import linear_probe, pooled_features
from iern.train.training.recipe import Recipe
from iern.train.training.trainer import Interrupted

SEEDS = (0, 1, 2)
FACES, EPOCHS = 3600, 12
PROBED = 600
"""Tested faces from which the linear probes read, under all their strata."""


def run(protocol: Protocol, method: str, seed: int, epochs: int) -> dict[str, Any]:
    """Train one method on one seed's faces and ask it all questions."""
    with tempfile.TemporaryDirectory() as folder:
        training, tests = Path(folder, "training"), Path(folder, "tests")
        if method in INTERVENED and isinstance(protocol, Conditions):
            placed = protocol.transferred(seed) if method == TRANSFERRED else protocol.intervened(seed)
            epochs //= len(protocol.strata)
        else:
            placed = protocol.training(seed)
        write_faces(training, placed, "train", SIZE, STRATA_OF.get(method, "place"))
        write_faces(tests, protocol.questions(), "test", SIZE)
        recipe = method_recipe(method, training, Path(folder, "run"), protocol.expressions, epochs, seed)
        fit(recipe)
        model = load_checkpoint(recipe.out / "ckpt.pt").model()
        return {
            "held": sorted(map(list, protocol.held(seed))),
            "parameters": trained_parameters(model, recipe),
            "faces_shown": epochs * len(placed),
            "recipe": _told(recipe),
            **assess(model, tests),
        }


def assess(model: Baseline, tests: Path) -> dict[str, Any]:
    """One digit a question, the place of the expression answered; and what linear probes read from the features."""
    expressions = model.config.expressions
    records = load_data(tests, expressions).records
    faces = FaceDataset(records, model.config.input, ())
    table = predict(model, faces, Fabric(accelerator="cpu", devices=1))
    names = sorted({record.subject for record in records})
    chosen = set(names[:: -(-len(names) // PROBED)])
    probed = [record for record in records if record.subject in chosen]
    subjects = [record.subject for record in probed]
    labels = {
        "expression": [expressions[record.expression] for record in probed],
        "stratum": [record.confounder for record in probed],
    }
    features = pooled_features(model, FaceDataset(probed, model.config.input, ()))
    return {
        "answers": "".join(map(str, table.argmax(dim=1).tolist())),
        "probes": {
            feature: {label: linear_probe(values, found, subjects) for label, found in labels.items()}
            for feature, values in features.items()
        },
    }


def questions(protocol: Protocol) -> dict[str, Any]:
    """What is asked, for the report: question i is about face i modulo the number of faces."""
    asked = protocol.questions()
    return {
        "expressions": list(protocol.expressions),
        "strata": list(protocol.strata),
        "faces": len(protocol.tested_faces),
        "labels": "".join(str(protocol.expressions.index(each.face.expression)) for each in asked),
        "stratum": "".join(str(protocol.strata.index(each.stratum)) for each in asked),
    }


def suitable(name: str) -> tuple[str, ...]:
    """The methods that a protocol compares: nobody can put a face under another origin, or balance equal cells."""
    if name == "camera":
        return "baseline", "prior", *STRATA_OF
    without = {"table1": {"resample"}, "table3": set(), "origin": set(INTERVENED)}[name] | set(STRATA_OF)
    return tuple(method for method in METHODS if method not in without)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.confounded",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="folder with manifest.csv and faces")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="table1")
    parser.add_argument(
        "--origin",
        default="fer2013",
        help="whose faces; with `--protocol origin` or `camera` the one left out (%(default)s)",
    )
    parser.add_argument(
        "--rare",
        type=float,
        default=0.1,
        help="with table3: faces of a held-out cell over those of another (%(default)s)",
    )
    parser.add_argument("--split", choices=("test", "valid"), default="test", help="of the faces asked (%(default)s)")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), help="default: all that fit the protocol")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--faces", type=int, default=FACES, help="to train on; fewer for a try-out (%(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="fewer for a try-out (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON; the page goes beside it (results/confounded_PROTOCOL_ORIGIN)")
    options = parser.parse_args(arguments)
    out = options.out or RESULTS / f"confounded_{options.protocol}_{options.origin}.json"
    torch.set_num_threads(cpu_budget())
    try:
        compare(options, out, Console())
    except (IernError, OSError) as error:
        return report(error)
    except (KeyboardInterrupt, Interrupted):
        print(f"stopped; finished runs are in {out}, the same command goes on", file=sys.stderr)
        return 130
    return 0


def compare(options: argparse.Namespace, out: Path, console: Console) -> None:
    """All runs that are not in `out` yet, and the report."""
    methods = options.methods or suitable(options.protocol)
    _check(options, methods)
    protocol = make_protocol(options.protocol, options.data, options.origin, options.split, options.faces, options.rare)
    told = {name: getattr(options, name) for name in ("protocol", "origin", "rare", "split", "faces", "epochs")}
    content = continued(out, configuration(told, protocol))
    content["questions"] = questions(protocol)
    for method in methods:
        recipe = method_recipe(method, options.data, out, protocol.expressions, options.epochs, 0)
        _check_same(content["runs"], method, _told(recipe), out)
    for seed in options.seeds:
        for method in methods:
            key = f"{method}/{seed}"
            if key not in content["runs"]:
                console.rule(f"{method}, seed {seed}")
                content["runs"][key] = run(protocol, method, seed, options.epochs)
                write_text(out, json.dumps(content, indent=1) + "\n")
    for path in (out, *write_report(content, out, console)):
        print(f"wrote {path}")


def configuration(told: dict[str, Any], protocol: Protocol) -> dict[str, Any]:
    """What all runs of a file must have in common: what was told, and the faces, by a digest of names and labels."""
    known = [f"{face.name},{face.expression}" for face in (*protocol.training_faces, *protocol.tested_faces)]
    return {**told, "data": hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]}


def _check(options: argparse.Namespace, methods: Sequence[str]) -> None:
    """Raise IernError for numbers with which the methods would not train as long, or not on equal cells."""
    faces, epochs, strata = options.faces, options.epochs, len(Conditions.strata)
    if min(options.seeds) < 0:
        raise IernError(f"found the seed {min(options.seeds)}, expected 0 or more")
    if options.protocol in LEAVE_ONE_OUT:
        if not set(INTERVENED).isdisjoint(methods):
            raise IernError(f"{' and '.join(INTERVENED)} need conditions: a face cannot be put under another origin")
        if faces < BATCH or epochs < 1:
            raise IernError(f"--faces {faces} --epochs {epochs}: expected at least {BATCH} faces and 1 epoch")
        return
    step = math.lcm(len(Conditions.expressions) * (strata - 1), BATCH)
    if faces < 1 or faces % step:
        raise IernError(f"--faces {faces}: expected a multiple of {step}, for equal cells in whole batches")
    if not 0 < options.rare <= 1:
        raise IernError(f"--rare {options.rare}: expected above 0 and at most 1")
    if epochs < 1 or epochs % strata:
        raise IernError(
            f"--epochs {epochs}: expected a multiple of {strata}; {INTERVENED[0]} has that many times the pictures"
        )


def _told(recipe: Recipe) -> dict[str, Any]:
    """A recipe without what differs from run to run."""
    return {key: value for key, value in recipe.identity().items() if key not in ("data", "seed", "epochs", "schedule")}


def _check_same(runs: dict[str, Any], method: str, told: dict[str, Any], out: Path) -> None:
    """Raise IernError where finished runs of a method are of another recipe than it has now."""
    for key, figures in runs.items():
        if key.split("/")[0] == method and figures["recipe"] != told:
            raise IernError(f"{out} holds {key} of another recipe than {method} has now; move it away")


if __name__ == "__main__":
    sys.exit(main())
