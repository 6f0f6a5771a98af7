"""The paper's toy experiment (Fig. 1) on drawn faces: expressions confounded with degradations in training.

    python benchmarks/toy.py                    all methods, 5 seeds; finished runs are kept, so it can be continued
    python benchmarks/toy.py --seeds 0 --methods baseline iern

Training sees each expression under one degradation only. `test` are new people under the same pairs (in distribution),
`ood` are those people under the degradations that their expression never had. The methods share backbone, schedule and
number of iterations an epoch, and see the same drawings; `input` is the intervention on the input: every training
drawing under every degradation, so it alone sees the held-out pairs, as at the bottom left of Fig. 1.

The configuration below was fixed before the first run. The results are what came out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.table import Table

from iern.runtime.errors import IernError
from iern.runtime.files import write_text
from iern.runtime.threads import cpu_budget
from iern.train.algorithm import AlgorithmConfig
from iern.train.cartoon_muscles import EXPRESSIONS
from iern.train.cartoon_set import plan, write
from iern.train.checkpoint import load_checkpoint, versions
from iern.train.data import FaceDataset, load_data
from iern.train.fit import fit
from iern.train.metrics import evaluate_answers
from iern.train.predict import predict
from iern.train.recipe import ModelRecipe, Recipe, Schedule

METHODS = {
    "baseline": ("baseline", 1),
    "disentanglement": ("disentanglement", 1),
    "iern": ("iern", 1),
    "input": ("baseline", None),
}
"""method of the network, and under how many degradations training sees an expression; none: all"""
SEEDS = (0, 1, 2, 3, 4)
PEOPLE, SIZE = 300, 64
MODEL = ModelRecipe(preset="edge", backbone="test_resnet", stride=16, image_size=SIZE, width=32, weights="none")
ALGORITHM = AlgorithmConfig(
    lr=1e-3, backbone_lr=1e-3, centre_lr=1e-2, betas=(0.9, 0.999), centres="means", statistics="balanced"
)
SCHEDULE = Schedule(warmup=1, constant=9, decay="cosine")
EPOCHS, BATCH = 20, 32


def run(method: str, seed: int, people: int = PEOPLE, epochs: int = EPOCHS) -> dict[str, Any]:
    """Train one method on one seed's people; figures on `test` and `ood`, and the epoch that was kept."""
    network, seen = METHODS[method]
    with tempfile.TemporaryDirectory() as folder:
        root, tests = Path(folder, "training"), Path(folder, "tests")
        confounded = plan(people, seed=seed, seen=1)
        train = confounded if seen else plan(people, seed=seed)
        write(root, [sample for sample in train if sample.split in {"train", "valid"}], SIZE)
        write(tests, [sample for sample in confounded if sample.split in {"test", "ood"}], SIZE)
        recipe = Recipe(
            data=root,
            out=Path(folder, "run"),
            model=dataclasses.replace(MODEL, method=network),
            algorithm=ALGORITHM,
            schedule=SCHEDULE,
            expressions=list(EXPRESSIONS),
            augment="none",
            # The input-level intervention has as many pictures an epoch more as there are degradations.
            epochs=epochs if seen else max(1, round(epochs / 3)),
            batch_size=BATCH,
            seed=seed,
            workers=0,
            save_every=0,
            verify=False,
        )
        fit(recipe)
        checkpoint = load_checkpoint(recipe.out / "ckpt.pt")
        model = checkpoint.model()
        data = load_data(tests, EXPRESSIONS)
        figures: dict[str, Any] = {"epoch": checkpoint.provenance["epoch"]}
        for split in ("test", "ood"):
            records = data.split(split)
            table = predict(model, FaceDataset(records, model.config.input, ()), Fabric(accelerator="cpu", devices=1))
            labels = [record.expression for record in records]
            strata = [record.confounder for record in records]
            figures[split] = evaluate_answers(table.numpy(), labels, strata, EXPRESSIONS)
        return figures


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and the 95 % bootstrap interval of the mean over seeds."""
    sample = np.asarray(values, float)
    rng = np.random.default_rng(0)
    means = rng.choice(sample, (10_000, len(sample))).mean(axis=1)
    return float(sample.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def summary(runs: dict[str, dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Rows of method, number of seeds, and accuracy with its interval in and out of distribution."""
    rows = []
    for method in METHODS:
        found = [figures for key, figures in runs.items() if key.split("/")[0] == method]
        if found:
            cells = [interval([figures[split]["accuracy"] for figures in found]) for split in ("test", "ood")]
            test, ood = (f"{mean:.1%} [{low:.1%}, {high:.1%}]" for mean, low, high in cells)
            rows.append((method, str(len(found)), test, ood))
    return rows


def markdown(rows: list[tuple[str, str, str, str]]) -> str:
    """The summary as a table for the results page."""
    head = "| method | seeds | in distribution | out of distribution |\n|---|---|---|---|\n"
    return head + "".join("| " + " | ".join(row) + " |\n" for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "toy.json")
    parser.add_argument("--people", type=int, default=PEOPLE, help="fewer for a try-out")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="fewer for a try-out")
    options = parser.parse_args(arguments)
    torch.set_num_threads(cpu_budget())
    console = Console()
    try:
        content = _continued(options.out, {"people": options.people, "epochs": options.epochs})
        for seed in options.seeds:
            for method in options.methods:
                if f"{method}/{seed}" not in content["runs"]:
                    console.rule(f"{method}, seed {seed}")
                    content["runs"][f"{method}/{seed}"] = run(method, seed, options.people, options.epochs)
                    write_text(options.out, json.dumps(content, indent=1) + "\n")
    except (IernError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; finished runs are in {options.out}, the same command goes on", file=sys.stderr)
        return 130
    rows = summary(content["runs"])
    write_text(options.out.with_suffix(".md"), markdown(rows))
    table = Table(
        "method", "seeds", "in distribution", "out of distribution", title="accuracy, 95 % interval over seeds"
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    print(f"wrote {options.out} and {options.out.with_suffix('.md')}")
    return 0


def _continued(out: Path, configuration: dict[str, Any]) -> dict[str, Any]:
    """The results so far, or an empty record. Raises IernError where they are of another configuration."""
    configuration = {**configuration, **versions("torch")}
    if not out.exists():
        return {"configuration": configuration, "runs": {}}
    content = json.loads(out.read_text(encoding="utf-8"))
    if content.get("configuration") != configuration:
        raise IernError(f"{out} holds runs of {content.get('configuration')}, now it is {configuration}; move it away")
    return content


if __name__ == "__main__":
    sys.exit(main())
