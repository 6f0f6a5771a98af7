"""Command: write a data set of drawn faces, so that training and tests need no download.

python train/cartoon.py OUT                      balanced: every expression under every degradation
python train/cartoon.py OUT --confounded         the paper's toy experiment, Fig. 1
python train/cartoon.py --sheet sheet.png        a sheet of faces to look at
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from iern.runtime.system.command import command

from rich.console import Console
from rich.progress import track

from iern.runtime.system.arguments import Parser
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.train.cartoons.data_set import MARKER, STRATA, CartoonSample, plan, write
from iern.train.cartoons.muscles import EXPRESSIONS
from iern.train.cartoons.sheet import write_sheet
from iern.train.data.degrade import DEGRADATIONS


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.out is None and options.sheet is None:
        parser.error("nothing to do: give a folder OUT, --sheet FILE.png, or both")
    refuse_conflicts({}, {"OUT": options.out, "--sheet": options.sheet})
    if options.sheet is not None:
        write_sheet(options.sheet, options.strata, options.seed)
        print(f"contact sheet: {options.sheet}")
    if options.out is not None:
        _write_set(options)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("out", nargs="?", type=Path, metavar="OUT", help=f"folder to write; a folder with {MARKER} is replaced")
    add("--sheet", type=Path, metavar="FILE.png", help="write a contact sheet: expressions by degradations")
    add = parser.add_argument_group("size of the set").add_argument
    add("--identities", type=int, default=400, help="people; 70 %% train, 15 %% valid, 15 %% test (default 400)")
    add("--per-cell", type=int, default=1, help="pictures of each person per expression and degradation (default 1)")
    add("--size", type=int, default=64, help="side of a picture, pixels (default 64)")
    add("--seed", type=int, default=0, help="another seed gives other people (default 0)")
    add = parser.add_argument_group("degradations").add_argument
    add("--strata", nargs="+", default=list(STRATA), choices=list(DEGRADATIONS), help="degradations, in order")
    add(
        "--confounded",
        nargs="?",
        type=int,
        const=1,
        metavar="SEEN",
        help="train, valid and test have expression k only under the SEEN degradations from the k-th on (default 1); "
        "the split `ood` has the people of test under the others",
    )
    return parser


def _write_set(options: argparse.Namespace) -> None:
    samples = plan(options.identities, options.per_cell, options.seed, EXPRESSIONS, options.strata, options.confounded)
    names = ("identities", "per_cell", "seed", "size", "strata", "confounded")
    console = Console(stderr=True)

    def with_progress(samples_to_draw: Iterable[CartoonSample]) -> Iterable[CartoonSample]:
        return track(samples_to_draw, "drawing", total=len(samples), console=console)

    write(options.out, samples, options.size, {name: getattr(options, name) for name in names}, with_progress)
    counts = {split: sum(sample.split == split for sample in samples) for split in ("train", "valid", "test", "ood")}
    print(f"{len(samples)} faces in {options.out}: " + ", ".join(f"{n} {split}" for split, n in counts.items() if n))


if __name__ == "__main__":
    sys.exit(main())
