"""The paper's claim on real faces: is IERN more accurate if an expression meets a condition it never had in training?

    python -m benchmarks.confounded --data ROOT                                   Table 1 over capture conditions
    python -m benchmarks.confounded --data ROOT --protocol table3                 with a tenth of the held-out cells
    python -m benchmarks.confounded --data ROOT --protocol origin --origin lfw    leave one origin out
    python -m benchmarks.confounded --data ROOT --protocol camera --origin lfw    which strata are best for that

Finished runs are kept, so the same command continues after a stop. `table1` puts every training face of one origin
under one of three conditions (train/data/conditions.py). Each expression is seen under two, with as many faces under
each, and held out under the third. A seed is a fold, so three seeds hold every cell out once. The faces of the split
are tested under every condition: `i.d.` are the seen cells, `o.o.d.` those held out. methods.py describes the methods.
They share backbone, augmentation, faces, number of iterations and learning rates. The last epoch is kept, so nothing
is selected on a tested or held-out face. Only `input` and `input_mended` see the held-out cells in full.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import INTERRUPTED, command

import torch
from lightning_fabric import Fabric
from rich.console import Console

from benchmarks import RESULTS
from benchmarks.common.results import write_json
from benchmarks.common.resumable import continued
from benchmarks.confounded.methods import (
    FACES_PER_BATCH,
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
from iern.runtime.errors import IernError
from iern.runtime.system.arguments import Parser
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.train.data.dataset import FaceDataset
from iern.train.data.manifest import input_files, load_data
from iern.train.evaluation.predict import predict
from iern.train.evaluation.probing import linear_probe, pooled_features
from iern.train.fit import fit
from iern.train.network.checkpoint import load_checkpoint
from iern.train.network.iern import Baseline
from iern.train.training.recipe import Recipe
from iern.train.training.resume import recipe_changes
from iern.train.training.trainer import Interrupted

SEEDS = (0, 1, 2)
FACES, EPOCHS = 3600, 12
PROBED = 600
"""The number of tested faces from which the linear probes read, under all their strata."""


def train_and_assess(protocol: Protocol, method: str, seed: int, epochs: int) -> dict[str, Any]:
    """Train one method on one seed's faces and test it on all questions."""
    with tempfile.TemporaryDirectory() as folder:
        training, tests = Path(folder, "training"), Path(folder, "tests")
        if method in INTERVENED and isinstance(protocol, Conditions):
            faces = protocol.transferred(seed) if method == TRANSFERRED else protocol.intervened(seed)
            epochs //= len(protocol.strata)
        else:
            faces = protocol.training(seed)
        write_faces(training, faces, "train", SIZE, STRATA_OF.get(method, "stratum"))
        write_faces(tests, protocol.questions(), "test", SIZE)
        recipe = method_recipe(method, training, Path(folder, "run"), protocol.expressions, epochs, seed)
        fit(recipe)
        model = load_checkpoint(recipe.out / "ckpt.pt").model()
        return {
            "held": sorted(map(list, protocol.held_out_cells(seed))),
            "parameters": trained_parameters(model, recipe),
            "faces_shown": epochs * len(faces),
            "recipe": _shared_settings(recipe),
            **assess(model, tests),
        }


def assess(model: Baseline, tests: Path) -> dict[str, Any]:
    """One digit for each question, the number of the predicted expression, and what linear probes read."""
    expressions = model.config.expressions
    records = load_data(tests, expressions).records
    faces = FaceDataset(records, model.config.input, ())
    table = predict(model, faces, Fabric(accelerator="cpu", devices=1))
    names = sorted({record.subject for record in records})
    probed_names = set(names[:: -(-len(names) // PROBED)])
    probed = [record for record in records if record.subject in probed_names]
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
    """The questions, for the report: question i is about face i modulo the number of faces."""
    tested = protocol.questions()
    return {
        "expressions": list(protocol.expressions),
        "strata": list(protocol.strata),
        "faces": len(protocol.tested_faces),
        "labels": "".join(str(protocol.expressions.index(each.face.expression)) for each in tested),
        "stratum": "".join(str(protocol.strata.index(each.stratum)) for each in tested),
    }


def suitable(name: str) -> tuple[str, ...]:
    """The methods that a protocol compares: a face cannot be put under another origin, nor equal cells be balanced."""
    if name == "camera":
        return "baseline", "prior", *STRATA_OF
    without = {"table1": {"resample"}, "table3": set(), "origin": set(INTERVENED)}[name] | set(STRATA_OF)
    return tuple(method for method in METHODS if method not in without)


@command
def main(argv: Sequence[str] | None = None) -> int | None:
    """Run the command and return its exit status."""
    parser = Parser(
        prog="python -m benchmarks.confounded",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument_group("what is compared").add_argument
    add("--data", type=Path, required=True, metavar="ROOT", help="folder with manifest.csv and faces")
    add("--protocol", choices=PROTOCOLS, default="table1", help="see above (default: %(default)s)")
    add(
        "--origin",
        default="fer2013",
        help="the origin of the faces; with `--protocol origin` or `camera` the one left out (default: %(default)s)",
    )
    add("--methods", nargs="+", choices=tuple(METHODS), help="default: all that fit the protocol")
    add("--seeds", nargs="+", type=int, default=SEEDS, help=f"default: {' '.join(map(str, SEEDS))}")
    add("--split", choices=("test", "valid"), default="test", help="split of the tested faces (default: %(default)s)")
    add(
        "--rare",
        type=float,
        default=0.1,
        help="with table3: faces of a held-out cell over those of another (default: %(default)s)",
    )
    add = parser.add_argument_group("how long it takes").add_argument
    add("--faces", type=int, default=FACES, help="faces to train on; fewer for a try-out (default: %(default)s)")
    add("--epochs", type=int, default=EPOCHS, help="fewer for a try-out (default: %(default)s)")
    add = parser.add_argument_group("what is written").add_argument
    add("--out", type=Path, help="JSON file; the page goes beside it (default: confounded_PROTOCOL_ORIGIN.json)")
    options = parser.parse_args(argv)
    out = options.out or RESULTS / f"confounded_{options.protocol}_{options.origin}.json"
    torch.set_num_threads(cpu_budget())
    try:
        compare(options, out, Console())
    except (KeyboardInterrupt, Interrupted):
        print(f"stopped; finished runs are in {out}, the same command continues", file=sys.stderr)
        return INTERRUPTED
    return None


def compare(options: argparse.Namespace, out: Path, console: Console) -> None:
    """Make all runs that `out` does not hold yet, and write the report."""
    methods = options.methods or suitable(options.protocol)
    _check(options, methods)
    beside = {"its page": out.with_suffix(".md"), "its plot": out.with_suffix(".png")}
    refuse_conflicts({"--data": input_files(options.data)}, {"--out": out, **beside})
    protocol = make_protocol(options.protocol, options.data, options.origin, options.split, options.faces, options.rare)
    settings = {name: getattr(options, name) for name in ("protocol", "origin", "rare", "split", "faces", "epochs")}
    results = continued(out, configuration(settings, protocol))
    results["questions"] = questions(protocol)
    for method in methods:
        recipe = method_recipe(method, options.data, out, protocol.expressions, options.epochs, 0)
        _check_same(results["runs"], method, _shared_settings(recipe), out)
    for seed in options.seeds:
        for method in methods:
            key = f"{method}/{seed}"
            if key not in results["runs"]:
                console.rule(f"{method}, seed {seed}")
                results["runs"][key] = train_and_assess(protocol, method, seed, options.epochs)
                write_json(out, results)
    for path in (out, *write_report(results, out, console)):
        print(f"wrote {path}")


def configuration(settings: dict[str, Any], protocol: Protocol) -> dict[str, Any]:
    """What all runs of a file must share: the settings, and the faces, by a digest of names and labels."""
    known = [f"{face.name},{face.expression}" for face in (*protocol.training_faces, *protocol.tested_faces)]
    return {**settings, "data": hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]}


def _check(options: argparse.Namespace, methods: Sequence[str]) -> None:
    """Raise IernError for numbers with which the methods would train for other lengths, or on unequal cells."""
    faces, epochs, strata = options.faces, options.epochs, len(Conditions.strata)
    if min(options.seeds) < 0:
        raise IernError(f"found the seed {min(options.seeds)}, expected 0 or more")
    if options.protocol in LEAVE_ONE_OUT:
        if not set(INTERVENED).isdisjoint(methods):
            raise IernError(f"{' and '.join(INTERVENED)} need conditions: a face cannot be put under another origin")
        if faces < FACES_PER_BATCH or epochs < 1:
            raise IernError(f"--faces {faces} --epochs {epochs}: expected at least {FACES_PER_BATCH} faces and 1 epoch")
        return
    step = math.lcm(len(Conditions.expressions) * (strata - 1), FACES_PER_BATCH)
    if faces < 1 or faces % step:
        raise IernError(f"--faces {faces}: expected a multiple of {step}, for equal cells in whole batches")
    if not 0 < options.rare <= 1:
        raise IernError(f"--rare {options.rare}: expected above 0 and at most 1")
    if epochs < 1 or epochs % strata:
        raise IernError(
            f"--epochs {epochs}: expected a multiple of {strata}; {INTERVENED[0]} has that many times the pictures"
        )


def _shared_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings of a recipe that are the same in all runs of a method."""
    return {key: value for key, value in recipe.identity().items() if key not in ("data", "seed", "epochs", "schedule")}


def _check_same(runs: dict[str, Any], method: str, settings: dict[str, Any], out: Path) -> None:
    """Raise IernError if finished runs of a method have another recipe than the method has now."""
    for key, figures in runs.items():
        if key.split("/")[0] == method and recipe_changes(figures["recipe"], settings):
            raise IernError(f"{out} holds {key} with another recipe than {method} has now; move it away")


if __name__ == "__main__":
    sys.exit(main())
