"""Command: compare the loop's search for faces with a search of every whole frame, in accuracy and cost."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

from benchmarks import RESULTS
from benchmarks.common.processor import cpu_model
from benchmarks.common.results import json_path, write_with_page
from benchmarks.detection.figures import FOUND, measure, total
from benchmarks.detection.report import markdown
from benchmarks.detection.sequences import FPS, NOISE, Clip, bundled_people, people_of, sequences
from iern.runtime.system.arguments import Parser

OUTPUT = RESULTS / "detection.json"


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    people = bundled_people() + (people_of(options.heads) if options.heads else [])
    clips = [clip for clip in sequences(people) if not options.only or clip.name in options.only]
    results = run(clips, f" and {len(people) - 4} portraits" if options.heads else "")
    page = write_with_page(options.json, results, markdown(results))
    print(f"wrote {options.json} and {page.name}")


def run(clips: Sequence[Clip], more_people: str) -> dict[str, Any]:
    """Measure the sequences -> the content of detection.json: plain types only."""
    rows = []
    for clip in clips:
        print(clip.name, flush=True)
        rows.append(measure(clip))
    return {
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": cpu_model(),
        "found": FOUND,
        "fps": FPS,
        "noise": NOISE,
        "more_people": more_people,
        "sequences": rows,
        "total": total(rows),
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks.detection",
        description="Compare the loop's search for faces with a search of every whole frame, in accuracy and cost.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--heads", type=Path, metavar="FOLDER", help="also take people from this folder of portraits")
    add("--only", action="append", metavar="NAME", help="measure this sequence only; may be repeated")
    add("--json", type=json_path, default=OUTPUT, metavar="FILE", help=f"default: {OUTPUT.name} in benchmarks/results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
