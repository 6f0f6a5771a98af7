"""Command: time one face as published, batched and exported, and compare with what the machine can do."""

from __future__ import annotations

import argparse
import platform
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

import torch

from benchmarks import RESULTS
from benchmarks.common.processor import cpu_model
from benchmarks.common.results import write_json
from benchmarks.latency.implementations import (
    check_agreement,
    exported_file,
    implementations,
    in_turns,
    random_faces,
    random_network,
    sgemm_peak,
)
from benchmarks.latency.macs import macs_of_graph, macs_of_network
from benchmarks.latency.report import report_paths, write_report
from iern.runtime.system.arguments import Parser, positive
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.train.network.checkpoint import versions
from iern.train.network.config import PRESETS

PACKAGES = ("iern", "torch", "timm", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy")
PROGRESS_SECONDS = 20.0
"""Seconds between lines of progress."""
QUICK = {"presets": ["edge"], "strata": [1, 3], "repeats": 3}
FULL = {"presets": ["edge", "paper"], "strata": [1, 3, 10], "repeats": 100}

EXAMPLES = """\
examples:
  python -m benchmarks.latency                                   everything, several minutes on two cores
  python -m benchmarks.latency --presets edge --strata 3         one configuration
  python -m benchmarks.latency --threads 1 --json one_core.json  as on a machine with one core
  python -m benchmarks.latency --quick                           does it run? its numbers mean nothing

Three implementations compute one face's logits under each of N strata, in float32, batch 1, with the same threads:
  published  PyTorch, one stratum after another, inference mode, in the memory format that is faster here
  batched    PyTorch, one call of g_r on N maps, in the same mode
  graph      the exported ONNX file in onnxruntime, as the webcam loop runs it
They take turns, so that other load on the machine slows all of them alike. Still, run nothing else meanwhile.
Before anything is timed, the three must give the same logits. The weights are random: speed does not
depend on them.

The command writes the raw samples as JSON, and beside it latency.md (tables) and latency.png.
"""


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    refuse_conflicts({}, {"--json": options.json, "the report": report_paths(options.json.parent)})
    results = measure(options.presets, options.strata, options.repeats, options.threads, options.quick, options.width)
    write_json(options.json, results)
    for path in (options.json, *write_report(results, options.json.parent)):
        print(f"wrote {path}")


def measure(
    presets: Sequence[str], strata: Sequence[int], repeats: int, threads: int, quick: bool, width: int | None = None
) -> dict[str, Any]:
    """Time every preset with every number of strata. Returns the content of the JSON file: plain types only."""
    torch.set_num_threads(threads)
    size = 256 if quick else 2048
    peaks = [sgemm_peak(size, repeats=5)]
    configurations = []
    for preset in presets:
        for count in strata:
            configurations.append(_configuration(preset, count, repeats, threads, width))
            peaks.append(sgemm_peak(size, repeats=5))  # in between, since the clock slows down as a machine warms up
    return {
        "machine": {"cpu": cpu_model(), "threads": threads, "cores": cpu_budget(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **versions(*PACKAGES)},
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "quick": quick,
        "repeats": repeats,
        "sgemm": {"size": size, "gflops": peaks},
        "configurations": configurations,
    }


def _configuration(preset: str, strata: int, repeats: int, threads: int, width: int | None) -> dict[str, Any]:
    label = f"{preset}, N {strata}" + (f", d {width}" if width else "")
    print(f"{label}: building and exporting", flush=True)
    model = random_network(preset, strata, **({"width": width} if width else {}))
    content = exported_file(model)
    print(f"{label}: finding the faster memory formats", flush=True)
    compared, settings = implementations(model, content, threads)
    face = random_faces(model.config)
    check_agreement(compared, face)
    print(f"{label}: timing {repeats} calls of each implementation", flush=True)
    last = time.monotonic()

    def print_progress(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_SECONDS:
            last = time.monotonic()
            print(f"{label}: {done} of {repeats}", flush=True)

    samples = in_turns(compared, face, repeats, print_progress)
    medians = ", ".join(f"{name} {sorted(ms)[len(ms) // 2]:.1f} ms" for name, ms in samples.items())
    print(f"{label}: {medians}", flush=True)
    return {
        "preset": preset if width is None else f"{preset} d {width}",
        "strata": strata,
        "settings": settings,
        "macs": {"naive": macs_of_network(model), "graph": macs_of_graph(content)},
        "milliseconds": samples,
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks.latency",
        description="Measure how much faster the exported graph is, and how near it is to the machine's peak.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("what is measured").add_argument
    add("--quick", action="store_true", help="one preset, few calls, into a temporary folder unless --json is given")
    add("--presets", nargs="+", choices=tuple(PRESETS), help="networks (default: edge paper)")
    add("--strata", nargs="+", type=positive, metavar="N", help="numbers of strata (default: 1 3 10)")
    add("--width", type=positive, metavar="D", help="channels after the backbone (default: the preset's)")
    add("--repeats", type=positive, metavar="N", help="timed calls of each implementation (default: 100)")
    add("--threads", type=positive, metavar="K", default=cpu_budget(), help="default: all this process may use")
    add = parser.add_argument_group("what is written").add_argument
    add("--json", type=Path, metavar="FILE", help="default: benchmarks/results/latency_<cpu>.json")
    options = parser.parse_args(argv)
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.json is None:
        folder = Path(tempfile.mkdtemp(prefix="latency-")) if options.quick else RESULTS
        options.json = folder / f"latency_{_slug(cpu_model())}.json"
    return options


def _slug(name: str) -> str:
    """A processor's name as part of a file's name: `Intel(R) Xeon(R) CPU @ 2.60GHz` -> `intel_xeon_cpu_2_60ghz`."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"\((?:r|tm)\)", "", name.lower())).strip("_")


if __name__ == "__main__":
    sys.exit(main())
