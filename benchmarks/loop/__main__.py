"""Command: time the whole loop, and compare it with another state of this repository and with other programs."""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

from benchmarks import RESULTS
from benchmarks.common.processor import cpu_model
from benchmarks.common.results import json_path, write_with_page
from benchmarks.loop.clips import FPS, MOST_FACES, demo_clip, made_clip
from benchmarks.loop.contestant import Contestant
from benchmarks.loop.counts import counts_of
from benchmarks.loop.field import (
    OURS,
    PUBLISHED,
    RIVAL,
    VARIANTS,
    our_loops,
    package_loops,
    parse_variant,
    published_loop,
    refuse_equal_names,
    rival_loop,
    usual_variants,
)
from benchmarks.loop.figures import checked_goals
from benchmarks.loop.packages import PACKAGES
from benchmarks.loop.play import play
from benchmarks.loop.report import markdown
from benchmarks.loop.stages import as_results, stage_times
from iern.runtime.power.energy import find_sensors
from iern.runtime.power.sensors import EnergyCounter
from iern.runtime.system.arguments import Parser, positive, value_of
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.train.network.checkpoint import versions

OUTPUT = RESULTS / "loop.json"
LIBRARIES = ("iern", "onnxruntime", "onnxruntime-gpu", "opencv-python", "opencv-python-headless", "numpy", "torch")
FACES = (1, 2, 4, 8, 16)
SECONDS = 3

EXAMPLES = """\
examples:
  python -m benchmarks.loop --rival b70f224                      against that commit, some minutes on two cores
  python -m benchmarks.loop --rival ../other --seconds 10        against another checkout, and longer
  python -m benchmarks.loop --faces 8 --without-published        the bundled clip and a clip with 8 faces
  python -m benchmarks.loop --package-python /opt/fer/bin/python and the packages of that interpreter
  python -m benchmarks.loop --variant 'small: --detect-size 320' and our loop with other arguments
  python -m benchmarks.loop --quick                              does it run? its numbers mean nothing

Contestants, each in its own process, all with the same Python, processor and frames:
  ours       this checkout's loop (runtime/webcam.py), with its defaults and in its variants: {variants}
  rival      the same command of another checkout, or of a commit of this clone
  published  a full search in each frame, then PyTorch, one stratum after another
  packages   {packages}, with their own detectors, if an interpreter has them

They see the bundled clip and made clips with the given numbers of faces, at 30 frames a second, one second each in
turns. The command also times the stages of this loop from file to picture, and counts what a frame calls. It writes
all samples as JSON, and a page beside it, which lists the goals with --rival. Run nothing else meanwhile.
"""


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    refuse_conflicts({}, {"--json": options.json, "its page": options.json.with_suffix(".md")})
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="rival-") as folder:
        contestants = _contestants(options, Path(folder))
        results = compare(contestants, options.faces, options.seconds)
    reference = RIVAL if options.rival else OURS if options.without_published else PUBLISHED
    results |= {
        "machine": {"cpu": cpu_model(), "cores": cpu_budget(), "system": platform.platform(), "load": load},
        "versions": {"python": platform.python_version(), **versions(*LIBRARIES)},
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "quick": options.quick,
        "reference": reference,
        "goals": checked_goals(results, OURS, RIVAL),
    }
    page = write_with_page(options.json, results, markdown(results))
    print(f"{markdown(results)}\nwrote {options.json}\nwrote {page}")


def compare(contestants: Sequence[Contestant], faces: Sequence[int], seconds: int) -> dict[str, Any]:
    """Play the bundled clip and one for each number of faces. Returns a part of loop.json: plain types only."""
    demo = demo_clip()
    counters = [sensor for sensor in find_sensors()[0] if isinstance(sensor, EnergyCounter)]
    clips, counts = [], []
    for clip in (demo, *(made_clip(number, demo) for number in faces)):
        clips.append(
            {
                "name": clip.name,
                "size": list(clip.size),
                "contestants": play(clip, contestants, seconds, lambda line: print(line, flush=True), counters),
            }
        )
        counts.append({"clip": clip.name, **dataclasses.asdict(counts_of(clip.frames[: 2 * FPS + 1], FPS))})
    samples = stage_times(seconds * FPS)
    return {
        "fps": FPS,
        "seconds": seconds,
        "contestants": [{"name": each.name, "how": each.how} for each in contestants],
        "clips": clips,
        "counts": counts,
        "stages": as_results(samples),
        "stages_frames": len(samples["decode"]),
    }


def _contestants(options: argparse.Namespace, folder: Path) -> list[Contestant]:
    """Everyone who takes part; this checkout's loop is the first. Another checkout is unpacked into `folder`."""
    variants = {} if options.without_variants else usual_variants()
    contestants = our_loops(variants | dict(options.variant))
    if options.rival:
        contestants.append(rival_loop(options.rival, folder))
    if not options.without_published:
        contestants.append(published_loop())
    contestants += package_loops(options.package_python or [Path(sys.executable)])
    refuse_equal_names(contestants)
    return contestants


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks.loop",
        description="Time the whole loop, and compare it with another state of this repository and other programs.",
        epilog=EXAMPLES.format(variants="; ".join(VARIANTS), packages=", ".join(PACKAGES)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("what is measured").add_argument
    add("--quick", action="store_true", help="one second, 1 face, into a temporary folder unless --json is given")
    add("--seconds", type=positive, metavar="S", help=f"of each clip, for each contestant (default: {SECONDS})")
    add("--faces", type=value_of(_faces), nargs="+", metavar="N", help="in the made clips (default: 1 2 4 8 16)")
    add = parser.add_argument_group("who takes part").add_argument
    add("--rival", metavar="CHECKOUT", help="another checkout of this repository, or a commit of this clone")
    add(
        "--variant",
        type=value_of(parse_variant),
        action="append",
        default=[],
        metavar="'NAME: ARGUMENTS'",
        help="our loop with these arguments, too; repeatable",
    )
    add("--without-variants", action="store_true", help="leave out the usual variants of our loop")
    add("--without-published", action="store_true", help="leave out the published way")
    add(
        "--package-python",
        type=Path,
        action="append",
        metavar="FILE",
        help="an interpreter that has other packages; repeatable (default: this one)",
    )
    add = parser.add_argument_group("what is written").add_argument
    add("--json", type=json_path, metavar="FILE", help=f"default: {OUTPUT.name} in benchmarks/results")
    options = parser.parse_args(argv)
    options.seconds = options.seconds or (1 if options.quick else SECONDS)
    options.faces = options.faces or ([1] if options.quick else FACES)
    if options.json is None:
        options.json = Path(tempfile.mkdtemp(prefix="loop-")) / "loop.json" if options.quick else OUTPUT
    return options


def _faces(text: str) -> int:
    """The value of --faces. Raises ValueError."""
    if not (text.isdecimal() and 1 <= int(text) <= MOST_FACES):
        raise ValueError(f"expected a number of faces from 1 to {MOST_FACES}, found {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
