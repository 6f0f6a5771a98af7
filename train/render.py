"""Command: write a data set of rendered heads, whose muscles are known, to train on beside photographs.

python train/render.py KIT --out ROOT            1500 pictures of each of the seven expressions
python train/fit.py --data ROOT ...              trains on them

KIT is the face model of USC ICT-FaceKit as its authors distribute it (MIT licence, Copyright (c) 2020 USC Institute for
Creative Technologies). It is not a part of this package; download its 350 MB once:

git clone --depth 1 https://github.com/USC-ICT/ICT-FaceKit
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from iern.runtime.system.command import command

from rich.console import Console
from rich.progress import track

from iern.runtime.system.arguments import Parser, positive
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.train.rendered.data_set import plan, write


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    options = _parser().parse_args(argv)
    refuse_conflicts({"KIT": options.kit}, {"--out": options.out})
    samples = plan(options.count)
    console = Console(stderr=True)

    def with_progress(pictures: Iterable[bytes]) -> Iterable[bytes]:
        return track(pictures, "rendering", total=len(samples), console=console)

    write(options.kit, options.out, samples, options.seed, options.workers, with_progress)
    counts = Counter(sample.split for sample in samples)
    people = len({sample.person for sample in samples})
    splits = ", ".join(f"{number} {split}" for split, number in counts.items())
    print(f"{len(samples)} pictures of {people} people in {options.out}: {splits}")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("kit", type=Path, metavar="KIT", help="folder of ICT-FaceKit, or the folder of its meshes, FaceXModel")
    add("--out", type=Path, required=True, metavar="ROOT", help="folder to write; new or empty")
    add("--count", type=positive, default=1500, help="pictures of each expression (default 1500)")
    add("--seed", type=_seed, default=1, help="another seed gives other people and pictures (default 1)")
    add(
        "--workers",
        type=positive,
        default=cpu_budget(),
        help="processes; the pictures do not depend on their number (default: the cores that may be used)",
    )
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, found {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
