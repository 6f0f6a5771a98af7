"""Command: how long one face takes, the published way, batched, and exported; and how near that is to the machine."""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import RESULTS
from benchmarks.common.processor import cpu_model
from benchmarks.latency.forms import check_agreement, export, faces, in_turns, network, sgemm_peak, ways
from benchmarks.latency.macs import macs_of_graph, macs_of_network
from benchmarks.latency.report import write_report
from iern.runtime.errors import IernError
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.files import write_text
from iern.train.network.checkpoint import versions
from iern.train.network.config import PRESETS

PACKAGES = ("iern", "torch", "timm", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy")
TELL_EVERY = 20.0
"""Seconds between lines of progress."""
QUICK = {"presets": ["edge"], "strata": [1, 3], "repeats": 3}
FULL = {"presets": ["edge", "paper"], "strata": [1, 3, 10], "repeats": 100}

EXAMPLES = """\
examples:
  python -m benchmarks.latency                                   everything, several minutes on two cores
  python -m benchmarks.latency --presets edge --strata 3         one configuration
  python -m benchmarks.latency --threads 1 --json one_core.json  as on a machine with one core
  python -m benchmarks.latency --quick                           does it run? its numbers mean nothing

Three ways from one face's pixels to its logits under each of N strata, float32, batch 1, same threads:
  published  PyTorch, one stratum after another, inference mode, the faster of the two memory formats here
  batched    PyTorch, one call of g_r on N maps, likewise
  graph      the exported ONNX file in onnxruntime, as the webcam loop runs it
The ways take turns, so that what else the machine does meets all of them; still, leave it alone meanwhile.
Before anything is timed, the three must give the same logits. Weights are random: speed does not
depend on them.

Written: the raw samples as JSON, and beside it latency.md (tables) and latency.png.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parse(argv)
    try:
        record = measure(
            options.presets, options.strata, options.repeats, options.threads, options.quick, options.width
        )
        write_text(options.json, json.dumps(record, indent=1) + "\n")
        for path in (options.json, *write_report(record, options.json.parent)):
            print(f"wrote {path}")
    except IernError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def measure(
    presets: Sequence[str], strata: Sequence[int], repeats: int, threads: int, quick: bool, width: int | None = None
) -> dict[str, Any]:
    """Time every preset with every number of strata -> what latency.json holds: plain types only."""
    torch.set_num_threads(threads)
    size = 256 if quick else 2048
    peaks = [sgemm_peak(size, repeats=5)]
    configurations = []
    for preset in presets:
        for count in strata:
            configurations.append(_configuration(preset, count, repeats, threads, width))
            peaks.append(sgemm_peak(size, repeats=5))  # between the others: the clock falls as a machine warms up
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
    _say(f"{label}: building and exporting")
    model = network(preset, strata, **({"width": width} if width else {}))
    content = export(model)
    _say(f"{label}: finding the faster memory formats")
    named, settings = ways(model, content, threads)
    face = faces(model.config)
    check_agreement(named, face)
    _say(f"{label}: timing {repeats} calls of each way")
    last = time.monotonic()

    def tell(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= TELL_EVERY:
            last = time.monotonic()
            _say(f"{label}: {done} of {repeats}")

    samples = in_turns(named, face, repeats, tell)
    _say(f"{label}: " + ", ".join(f"{name} {sorted(ms)[len(ms) // 2]:.1f} ms" for name, ms in samples.items()))
    return {
        "preset": preset if width is None else f"{preset} d {width}",
        "strata": strata,
        "settings": settings,
        "macs": {"naive": macs_of_network(model), "graph": macs_of_graph(content)},
        "milliseconds": samples,
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency",
        description="Measure what the exported graph saves, and what is left to save.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--presets", nargs="+", choices=tuple(PRESETS), help="networks (default: edge paper)")
    add("--strata", nargs="+", type=_at_least_one, metavar="N", help="numbers of strata (default: 1 3 10)")
    add("--width", type=_at_least_one, metavar="D", help="channels behind the backbone (default: the preset's)")
    add("--repeats", type=_at_least_one, metavar="N", help="timed calls of each way (default: 100)")
    add("--threads", type=_at_least_one, metavar="K", default=cpu_budget(), help="default: all this process may use")
    add("--json", type=Path, metavar="FILE", help="default: benchmarks/results/latency_<cpu>.json")
    add("--quick", action="store_true", help="one preset, few calls, into a temporary folder unless --json is given")
    options = parser.parse_args(argv)
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.json is None:
        folder = Path(tempfile.mkdtemp(prefix="latency-")) if options.quick else RESULTS
        options.json = folder / f"latency_{_slug(cpu_model())}.json"
    return options


def _slug(name: str) -> str:
    """A processor's name as part of a file's: `Intel(R) Xeon(R) CPU @ 2.60GHz` -> `intel_xeon_cpu_2_60ghz`."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"\((?:r|tm)\)", "", name.lower())).strip("_")


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
