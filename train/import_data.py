"""Command: make a public data set of faces ready to train on: `python train/import_data.py rafdb SOURCE --out ROOT`."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from iern.runtime.system.command import command

from rich.console import Console
from rich.progress import track
from rich.table import Table

from iern.runtime.system.arguments import Parser
from iern.runtime.system.remedies import run_script
from iern.train.data.importers.source import DataSet, SourceFace
from iern.train.data.importers.write import DATA_SETS, Imported, import_faces

EXAMPLES = """\
examples:
  import_data.py ferplus DOWNLOADS --out FERPLUS       then: python train/fit.py --data FERPLUS ...
  import_data.py rafdb RAF-DB --out RAF-DB             writes RAF-DB/manifest.csv only

SOURCE is the folder into which the archives of the authors were extracted. ROOT gets a manifest.csv, which points to
the images where they are. Only data sets without a file for each face have images written. The confounder is the name
of the data set, so that with --more_data each data set is a stratum. What is left out is counted and printed.

The files that are read, and what becomes of them:
"""


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    options = _parser().parse_args(argv)
    console = Console(stderr=True)

    def with_progress(faces: Iterable[SourceFace]) -> Iterable[SourceFace]:
        return track(faces, f"reading {options.name}", total=None, console=console, disable=not console.is_terminal)

    found = import_faces(
        *(DATA_SETS[options.name], options.source, options.out),
        confounder=options.confounder,
        contempt=options.contempt,
        skip_missing=options.skip_missing,
        track=with_progress,
    )
    print_counts(found, Console(soft_wrap=True))
    print(f"wrote {options.out / 'manifest.csv'}; next: {run_script('train/fit.py')} --data {options.out} ...")


def print_counts(found: Imported, console: Console) -> None:
    """Print the number of faces of each expression and split, and why others were left out."""
    splits = [split for split in ("train", "valid", "test") if any(split == each for _, each in found.faces)]
    table = Table()
    for heading in ("", *splits):
        table.add_column(heading, justify="right")
    for expression in sorted({expression for expression, _ in found.faces}):
        table.add_row(expression, *(f"{found.faces[expression, split]:,}" for split in splits))
    console.print(table)
    for why, count in sorted(found.left_out.items()):
        if count:
            console.print(f"left out: {count:,} {why}", highlight=False, markup=False)


def _parser() -> argparse.ArgumentParser:
    described = "\n".join(_described(each) for each in DATA_SETS.values())
    parser = Parser(
        description=__doc__, epilog=EXAMPLES + described, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("name", choices=DATA_SETS, metavar="NAME", help=", ".join(DATA_SETS))
    add("source", type=Path, metavar="SOURCE", help="folder of the extracted archives")
    add("--out", type=Path, required=True, metavar="ROOT", help="folder of the manifest; new or without one")
    add("--confounder", default="", metavar="WORD", help="the value for all faces (default: NAME)")
    add("--contempt", action="store_true", help="keep faces of contempt, which the bundled model does not know")
    add("--skip-missing", action="store_true", help="leave out listed images that are absent, instead of an error")
    return parser


def _described(data_set: DataSet) -> str:
    """A data set for the help: its files, and what becomes of them."""
    layout = textwrap.indent(data_set.layout, " " * 13)
    notes = textwrap.fill(data_set.notes, 115, initial_indent=" " * 13, subsequent_indent=" " * 13)
    return f"  {data_set.name:<11}" + layout.lstrip() + "\n" + notes


if __name__ == "__main__":
    sys.exit(main())
