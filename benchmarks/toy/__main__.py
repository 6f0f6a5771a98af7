"""The paper's toy experiment (Fig. 1) on drawn faces: expressions confounded with degradations in training.

    python -m benchmarks.toy                    all methods, 5 seeds; finished runs are kept, so it can be continued
    python -m benchmarks.toy --seeds 0 --methods baseline iern

There are two protocols: training sees each expression under 1 of the 3 degradations (Fig. 1), or under 2 (as mild as
Table 1). The test uses new people under every pair of expression and degradation: `i.d.` are the pairs of the training
data, `o.o.d.` the others. The methods share backbone, schedule and number of iterations, and see the same drawings.
`input` is the intervention on the input: every training drawing under every degradation. It alone sees the held-out
pairs, as at the bottom left of Fig. 1.

Each seed has its own people, initial weights and order. The configuration in this file was fixed before the first of
these runs, on people of none of these seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from benchmarks.toy.report import write_report
from iern.runtime.system.arguments import Parser
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.train.algorithm.config import AlgorithmConfig
from iern.train.cartoons.data_set import STRATA, plan, write
from iern.train.cartoons.muscles import EXPRESSIONS
from iern.train.data.dataset import FaceDataset
from iern.train.data.manifest import load_data
from iern.train.data.protocols import confounded
from iern.train.evaluation.metrics import evaluate_predictions
from iern.train.evaluation.predict import predict
from iern.train.evaluation.probing import linear_probe, pooled_features
from iern.train.fit import fit
from iern.train.network.checkpoint import load_checkpoint
from iern.train.training.recipe import ModelRecipe, Recipe, Schedule
from iern.train.training.trainer import Interrupted

METHODS = ("baseline", "disentanglement", "iern", "input")
PROTOCOLS = (1, 2)
"""The number of degradations under which training sees an expression."""
SEEDS = (0, 1, 2, 3, 4)
PEOPLE, SIZE, DRAWINGS_PER_BATCH = 300, 64, 32
PASSES = 6
"""Epochs over the drawings under one degradation each. With more pictures there are fewer epochs, so that the number of
iterations is the same."""
MODEL = ModelRecipe(preset="edge", backbone="tf_efficientnet_lite0", image_size=SIZE, width=32, weights="imagenet")
ALGORITHM = AlgorithmConfig(
    lr=1e-3, backbone_lr=1e-3, centre_lr=1e-2, betas=(0.9, 0.999), centres="means", statistics="balanced"
)
OUTPUT = RESULTS / "toy.json"


def train_and_assess(method: str, seen: int, seed: int, people: int = PEOPLE, passes: int = PASSES) -> dict[str, Any]:
    """Train one method on one seed's people, each expression under `seen` degradations. Returns figures by protocol."""
    with tempfile.TemporaryDirectory() as folder:
        root, tests = Path(folder, "training"), Path(folder, "tests")
        everything = plan(people, seed=seed)
        training = plan(people, seed=seed, seen=seen) if seen < len(STRATA) else everything
        write(root, [sample for sample in training if sample.split in {"train", "valid"}], SIZE)
        write(tests, [sample for sample in everything if sample.split == "test"], SIZE)
        epochs = max(1, passes // seen)
        recipe = Recipe(
            data=root,
            out=Path(folder, "run"),
            model=dataclasses.replace(MODEL, method="baseline" if method == "input" else method),
            algorithm=ALGORITHM,
            schedule=Schedule(warmup=epochs / 10, constant=epochs / 2, decay="cosine"),
            expressions=list(EXPRESSIONS),
            augment="none",
            epochs=epochs,
            batch_size=DRAWINGS_PER_BATCH,
            seed=seed,
            workers=0,
            save_every=0,
            verify=False,
        )
        fit(recipe)
        protocols = PROTOCOLS if method == "input" else (seen,)
        return assess(recipe.out / "ckpt.pt", tests, protocols)


def assess(checkpoint: Path, tests: Path, protocols: Sequence[int]) -> dict[str, Any]:
    """Figures in and out of distribution for each protocol, and what linear probes read from the features."""
    loaded = load_checkpoint(checkpoint)
    model = loaded.model()
    records = load_data(tests, EXPRESSIONS).records
    faces = FaceDataset(records, model.config.input, ())
    table = predict(model, faces, Fabric(accelerator="cpu", devices=1)).numpy()
    figures: dict[str, Any] = {"epoch": loaded.provenance["epoch"], "protocols": {}, "probes": {}}
    for seen in protocols:
        cells = confounded(EXPRESSIONS, STRATA, seen)
        trained = [(EXPRESSIONS[record.expression], record.confounder) in cells for record in records]
        figures["protocols"][str(seen)] = {
            name: evaluate_predictions(
                table[rows],
                [records[i].expression for i in rows],
                [records[i].confounder for i in rows],
                EXPRESSIONS,
            )
            for name, rows in (
                ("i.d.", [i for i, known in enumerate(trained) if known]),
                ("o.o.d.", [i for i, known in enumerate(trained) if not known]),
            )
        }
    subjects = [record.subject for record in records]
    labels = {
        "expression": [EXPRESSIONS[record.expression] for record in records],
        "degradation": [record.confounder for record in records],
    }
    for feature, values in pooled_features(model, faces).items():
        figures["probes"][feature] = {name: linear_probe(values, found, subjects) for name, found in labels.items()}
    return figures


@command
def main(argv: Sequence[str] | None = None) -> int | None:
    """Run the command and return its exit status."""
    parser = Parser(
        prog="python -m benchmarks.toy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument_group("what is compared").add_argument
    add("--methods", nargs="+", choices=METHODS, default=METHODS, help="default: all")
    add("--protocols", nargs="+", type=int, choices=PROTOCOLS, default=PROTOCOLS, help="default: both")
    add("--seeds", nargs="+", type=int, default=SEEDS, help=f"default: {' '.join(map(str, SEEDS))}")
    add = parser.add_argument_group("how long it takes").add_argument
    add("--people", type=int, default=PEOPLE, help="fewer for a try-out (default: %(default)s)")
    add("--passes", type=int, default=PASSES, help="fewer for a try-out (default: %(default)s)")
    add = parser.add_argument_group("what is written").add_argument
    add("--out", type=Path, default=OUTPUT, help="JSON file; the page goes beside it (default: %(default)s)")
    options = parser.parse_args(argv)
    torch.set_num_threads(cpu_budget())
    try:
        compare(options, Console())
    except (KeyboardInterrupt, Interrupted):
        print(f"stopped; finished runs are in {options.out}, the same command continues", file=sys.stderr)
        return INTERRUPTED
    return None


def compare(options: argparse.Namespace, console: Console) -> None:
    """Make all runs that `options.out` does not hold yet, and write the report."""
    beside = {"its page": options.out.with_suffix(".md"), "its plot": options.out.with_suffix(".png")}
    refuse_conflicts({}, {"--out": options.out, **beside})
    results = continued(options.out, {"people": options.people, "passes": options.passes})
    for seed in options.seeds:
        for method, seen in _trainings(options.methods, options.protocols):
            key = f"{method}/{seen}/{seed}"
            if key not in results["runs"]:
                console.rule(f"{method}, {seen} of {len(STRATA)} degradations, seed {seed}")
                results["runs"][key] = train_and_assess(method, seen, seed, options.people, options.passes)
                write_json(options.out, results)
    for path in (options.out, *write_report(results["runs"], options.out, console)):
        print(f"wrote {path}")


def _trainings(methods: Sequence[str], protocols: Sequence[int]) -> list[tuple[str, int]]:
    """Pairs of method and number of degradations to train under; `input` trains once, under all."""
    pairs = [(method, seen) for seen in protocols for method in methods if method != "input"]
    return pairs + [("input", len(STRATA))] * ("input" in methods)


if __name__ == "__main__":
    sys.exit(main())
