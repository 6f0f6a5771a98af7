"""Command: play several cameras in one loop and in a loop for each, and compare rates, drops and processor time."""

from __future__ import annotations

import argparse
import platform
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

from benchmarks import RESULTS
from benchmarks.cameras.loops import measure
from benchmarks.cameras.report import HEAD, combined, markdown, row
from benchmarks.common.camera_process import camera_process
from benchmarks.common.processor import cpu_model
from benchmarks.common.results import json_path, write_with_page
from iern.runtime.system.arguments import Parser
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts

OUTPUT = RESULTS / "cameras.json"

EXAMPLES = """\
examples:
  python -m benchmarks.cameras                     1, 2, 4 and 8 cameras, about ten minutes
  python -m benchmarks.cameras --cameras 16        does this machine carry sixteen?
  python -m benchmarks.cameras --quick             does it run? 1 and 4 cameras, a minute, printed and not kept

Each camera is an address of a server that plays the bundled clip in real time. The loop is the command itself, as one
process with a --source for each camera, and as one process a camera. Both take turns, so that other load on the machine
slows both. A camera that the loop follows has the rate of the cameras and drops nothing. It needs Linux (/proc).
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parse(argv)
    refuse_conflicts({}, {"--json": options.json, "its page": options.json.with_suffix(".md")})
    results = compared(options)
    if options.quick:
        print(markdown(results))
        return 0
    page = write_with_page(options.json, results, markdown(results))
    print(f"wrote {options.json}\nwrote {page}")
    return 0


def compared(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every set-up in turns -> the content of cameras.json: plain types only."""
    set_ups = [(count, together) for count in options.cameras for together in {True, count == 1}]
    runs: dict[tuple[int, bool], list[dict[str, Any]]] = {set_up: [] for set_up in set_ups}
    order = random.Random(0)
    with camera_process("benchmarks.cameras.server", ["--fps", str(options.fps)]) as address:
        for _ in range(options.rounds):
            for set_up in order.sample(set_ups, len(set_ups)):
                count, together = set_up
                urls = [f"http://{address}/{number}" for number in range(count)]
                with tempfile.TemporaryDirectory(prefix="cameras-") as folder:
                    runs[set_up].append(measure(urls, together, options.seconds, options.warm_up, Path(folder)))
                found = row(combined(runs[set_up][-1:]))
                print("; ".join(f"{name} {cell}" for name, cell in zip(HEAD, found, strict=True)), flush=True)
    return {
        "machine": {"processor": cpu_model(), "cores": cpu_budget(), "system": platform.platform()},
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": " ".join(["python -m benchmarks.cameras", *(["--quick"] if options.quick else [])]),
        "fps": options.fps,
        "seconds": options.seconds,
        "quick": options.quick,
        "figures": [combined(runs[set_up]) for set_up in set_ups],
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks.cameras",
        description="Compare one loop for several cameras with a loop for each.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--cameras", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N", help="numbers of cameras")
    add("--fps", type=float, default=15, metavar="N", help="frames a second of each camera (default: 15)")
    add("--seconds", type=float, default=20, metavar="S", help="length of a turn (default: 20)")
    add("--rounds", type=int, default=3, metavar="N", help="turns of each set-up (default: 3)")
    add("--quick", action="store_true", help="1 and 4 cameras, one turn of 6 seconds each; nothing is written")
    add("--json", type=json_path, default=OUTPUT, metavar="FILE", help="default: benchmarks/results/cameras.json")
    options = parser.parse_args(argv)
    options.warm_up = 2.0
    if options.quick:
        options.cameras, options.seconds, options.rounds, options.warm_up = [1, 4], 6.0, 1, 1.0
    return options


if __name__ == "__main__":
    sys.exit(main())
