"""Command: writes a data set of drawn faces, so that training and tests need no download.

python train/cartoon.py OUT                      balanced: every expression under every degradation
python train/cartoon.py OUT --confounded         the paper's toy experiment, Fig. 1
python train/cartoon.py --sheet sheet.png        look at them first
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import track

from iern.runtime.errors import IernError
from iern.train.cartoons.data_set import MARKER, STRATA, CartoonSample, plan, write
from iern.train.cartoons.muscles import EXPRESSIONS
from iern.train.cartoons.sheet import write_sheet
from iern.train.data.degrade import DEGRADATIONS


def parser() -> argparse.ArgumentParser:
    """The command line; every option says what it means."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = command.add_argument
    add("out", nargs="?", type=Path, metavar="OUT", help=f"folder to write; one with {MARKER} is replaced")
    add("--identities", type=int, default=400, help="people; 70 %% train, 15 %% valid, 15 %% test (default 400)")
    add("--per-cell", type=int, default=1, help="pictures of each person per expression and degradation (default 1)")
    add("--seed", type=int, default=0, help="another seed is other people (default 0)")
    add("--size", type=int, default=64, help="pixels a side (default 64)")
    add("--strata", nargs="+", default=list(STRATA), choices=list(DEGRADATIONS), help="degradations, in order")
    add(
        "--confounded",
        nargs="?",
        type=int,
        const=1,
        metavar="SEEN",
        help="train, valid and test see expression k only under the SEEN degradations from the k-th on (default 1); "
        "split `ood` has the test's people under the others",
    )
    add("--sheet", type=Path, metavar="FILE.png", help="also write a contact sheet: expressions by degradations")
    return command


def main(arguments: list[str] | None = None) -> None:
    """Run the command; exits with status 1 and one line where it cannot."""
    options = parser().parse_args(arguments)
    if options.out is None and options.sheet is None:
        parser().error("nothing to do: give a folder OUT, --sheet FILE.png, or both")
    try:
        if options.sheet is not None:
            write_sheet(options.sheet, options.strata, options.seed)
            print(f"contact sheet: {options.sheet}")
        if options.out is not None:
            _write_set(options)
    except (IernError, OSError) as error:
        sys.exit(f"cartoon: {error}")


def _write_set(options: argparse.Namespace) -> None:
    samples = plan(options.identities, options.per_cell, options.seed, EXPRESSIONS, options.strata, options.confounded)
    names = ("identities", "per_cell", "seed", "size", "strata", "confounded")
    console = Console(stderr=True)

    def shown(todo: Iterable[CartoonSample]) -> Iterable[CartoonSample]:
        return track(todo, "drawing", total=len(samples), console=console)

    write(options.out, samples, options.size, {name: getattr(options, name) for name in names}, shown)
    counts = {split: sum(sample.split == split for sample in samples) for split in ("train", "valid", "test", "ood")}
    print(f"{len(samples)} faces in {options.out}: " + ", ".join(f"{n} {split}" for split, n in counts.items() if n))


if __name__ == "__main__":
    main()
