"""Measure disentanglement with linear probes: `python train/probe.py CKPT --data ROOT`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

import torch
from rich.console import Console
from rich.table import Table

from iern.runtime.system.arguments import Parser
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.runtime.system.files import write_text
from iern.train.data.manifest import input_files
from iern.train.evaluation.probing import probe

EXAMPLES = """\
examples:
  probe.py runs/edge/ckpt.pt --data ROOT
  probe.py runs/edge/ckpt.pt --data ROOT --split valid --json probes.json

A probe is a logistic regression. It learns to read a label, the expression or the confounder (the nuisance
that the network should not depend on), from the pooled features of the frozen network. It is tested on
faces that it was not trained on: five folds, with all faces of a person in one fold. If the strata of the
network are capture conditions, every face is first changed by a condition drawn at random, and the probes
read that condition too.

Compare the accuracy with chance (one over the number of labels) and with the share of the most frequent
label. From an emotion feature without the confounder a probe reads the confounder no better than that.
The accuracy of d_c, the discriminator of training, shows nothing: d_c never trains on emotion features.
"""


def print_probes(probes: dict[str, Any], console: Console) -> None:
    """Print a table in percent: a row for each feature, a column for each label."""
    first = next(iter(probes.values()))
    table = Table(title=f"read by a linear probe, % of {first['expression']['n']} faces")
    for heading in ("feature", *first):
        table.add_column(heading, justify="right")
    for feature, found in probes.items():
        table.add_row(feature, *(f"{100 * each['accuracy']:.1f}" for each in found.values()))
    for key, name in (("majority", "(most frequent)"), ("chance", "(chance)")):
        table.add_row(name, *(f"{100 * each[key]:.1f}" for each in first.values()))
    console.print(table)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = Parser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="ckpt.pt of train/fit.py")
    faces = parser.add_argument_group("faces")
    faces.add_argument("--data", type=Path, required=True, metavar="ROOT", help="the labelled faces")
    faces.add_argument("--split", default="test", help="train, valid, test, or all (default %(default)s)")
    output = parser.add_argument_group("output")
    output.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(argv)
    torch.set_num_threads(cpu_budget())
    refuse_conflicts({"CKPT": options.checkpoint, "--data": input_files(options.data)}, {"--json": options.json})
    probes = probe(options.checkpoint, options.data, options.split)
    print_probes(probes, Console(soft_wrap=True))
    if options.json:
        write_text(options.json, json.dumps({"split": options.split, "probes": probes}, indent=1) + "\n")
        print(f"wrote {options.json}")


if __name__ == "__main__":
    sys.exit(main())
