"""Disentanglement, measured: `python train/probe.py CKPT --data ROOT` reads labels from frozen features.

That d_c stands at chance on emotion features shows nothing: d_c never trains on them, so g_e may have left its domain.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader

from iern.runtime.errors import DataError, IernError, report
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.files import write_text
from iern.train.data.conditions import STRATA
from iern.train.data.dataset import FaceDataset
from iern.train.data.manifest import load_data
from iern.train.evaluation.bootstrap import drawn_units
from iern.train.network.checkpoint import load_checkpoint
from iern.train.network.iern import Baseline, Disentanglement

EXAMPLES = """\
examples:
  probe.py runs/edge/ckpt.pt --data ROOT
  probe.py runs/edge/ckpt.pt --data ROOT --split valid --json probes.json

Fresh logistic regressions learn to read, from the pooled features of the frozen network, the expression
and the confounder of faces that it was not trained on; in five folds, with a person's faces on one side.
A network whose strata are drawn conditions is asked about every face under one of them, drawn anew.
Beside the accuracy stand chance (one over the number of labels) and the share of the commonest label:
an emotion feature that holds nothing of the confounder is read no better than that.
"""
FOLDS = 5


@torch.inference_mode()
def pooled_features(model: Baseline, faces: FaceDataset, batch_size: int = 64) -> dict[str, NDArray[np.float32]]:
    """n faces -> (n, d) features after the global average pool, in eval mode: `base` f_b(x), and where the method has
    them `emotion` g_e(f_b(x)) and `context` g_c(f_b(x))."""
    training = model.training
    model.eval()
    parts: dict[str, list[NDArray[np.float32]]] = {}
    for batch, *_ in DataLoader(faces, batch_size=batch_size):
        base = model.backbone(model.normalise(batch).contiguous(memory_format=torch.channels_last))
        maps = {"base": base}
        if isinstance(model, Disentanglement):
            maps |= {"emotion": model.emotion_generator(base), "context": model.context_generator(base)}
        for name, feature in maps.items():
            parts.setdefault(name, []).append(feature.mean(dim=(2, 3)).float().numpy())
    model.train(training)
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def linear_probe(features: NDArray[np.float32], labels: Sequence[str], subjects: Sequence[str]) -> dict[str, Any]:
    """(n, d) features -> how well a logistic regression reads `labels` from them, cross-validated with subjects apart.

    `accuracy`, beside `chance` (one over the number of labels) and `majority` (the commonest label's share). Raises
    ValueError for fewer than 2 labels or subjects.
    """
    counts = np.unique(np.asarray(labels), return_counts=True)[1]
    groups = len(set(subjects))
    if len(counts) < 2 or groups < 2:
        raise ValueError(f"found {len(counts)} labels of {groups} subjects; a probe needs at least 2 of both")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    answers = cross_val_predict(probe, features, labels, groups=subjects, cv=GroupKFold(min(FOLDS, groups)))
    return {
        "n": len(features),
        "accuracy": float(np.mean(answers == np.asarray(labels))),
        "chance": 1 / len(counts),
        "majority": float(counts.max() / counts.sum()),
    }


def probe(checkpoint: Path, data: Path, split: str) -> dict[str, Any]:
    """feature -> label -> figures of `linear_probe`, over a split of `data`.

    The labels are `expression`, `confounder` (what the data gives as such), and for a network whose strata are drawn
    conditions `condition`. Raises IernError.
    """
    model = load_checkpoint(checkpoint).model()
    config = model.config
    records = load_data(data, config.expressions).split(split)
    drawn = config.strata == STRATA
    faces = FaceDataset(records, config.input, config.strata, under_conditions=drawn)
    labels = {
        "expression": [config.expressions[record.expression] for record in records],
        "confounder": [record.confounder for record in records],
    }
    if drawn:
        labels["condition"] = [STRATA[stratum] for _, _, stratum, _ in faces]
    units = drawn_units(records)
    try:
        return {
            feature: {label: linear_probe(values, found, units) for label, found in labels.items()}
            for feature, values in pooled_features(model, faces).items()
        }
    except ValueError as error:
        raise DataError(f"{data}: {error}") from error


def print_probes(probes: dict[str, Any], console: Console) -> None:
    """A row a feature and a column a label, in percent."""
    first = next(iter(probes.values()))
    table = Table(title=f"read by a linear probe, % of {first['expression']['n']} faces")
    for heading in ("feature", *first):
        table.add_column(heading, justify="right")
    for feature, found in probes.items():
        table.add_row(feature, *(f"{100 * each['accuracy']:.1f}" for each in found.values()))
    for key, name in (("majority", "(commonest)"), ("chance", "(chance)")):
        table.add_row(name, *(f"{100 * each[key]:.1f}" for each in first.values()))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="probe.py", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="ckpt.pt of train/fit.py")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="the labelled faces")
    parser.add_argument("--split", default="test", help="train, valid, test, or all (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(cpu_budget())
    try:
        probes = probe(options.checkpoint, options.data, options.split)
        print_probes(probes, Console(soft_wrap=True))
        if options.json:
            write_text(options.json, json.dumps({"split": options.split, "probes": probes}, indent=1) + "\n")
            print(f"wrote {options.json}")
    except (IernError, OSError) as error:
        return report(error)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
