"""Command: on a machine with an NVIDIA GPU, check and time everything that needs one."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from iern.runtime.system.command import INTERRUPTED, command

from benchmarks import RESULTS
from benchmarks.common.results import json_path
from benchmarks.gpu_check.machine import gpu_name, missing_reason, slug
from benchmarks.gpu_check.plan import PARTS, QUICK, SLOW, Scale, listing, plan
from benchmarks.gpu_check.results_file import ResultsFile
from iern.runtime.errors import IernError
from iern.runtime.system.arguments import Parser
from iern.runtime.system.file_conflicts import refuse_conflicts

EXAMPLES = """\
examples:
  python -m benchmarks.gpu_check --dry-run        list what would run here, and why the rest is skipped; needs no GPU
  python -m benchmarks.gpu_check                  everything; an hour or two, mostly torch.compile and TensorRT builds
  python -m benchmarks.gpu_check --quick          does it run? minutes; its numbers mean nothing
  python -m benchmarks.gpu_check --only heads     one part
  python -m benchmarks.gpu_check --without torch.compile     minutes, not an hour, if there is no TensorRT

parts:
  kernel   the averaging kernel compared with float64, built by nvcc and from a shipped image
  tails    what follows the last ReLU: layers, window sums, the kernel
  heads    g_r and f_c from an emotion feature: published one stratum after another, batched, exact, and exact
           with the kernel; both presets' sizes, N 1, 3, 10, batch 1, 4, 16, FP32 and FP16; eager, CUDA graph,
           torch.compile
  models   the bundled network from face to probabilities: PyTorch, onnxruntime, TensorRT with either head
  tests    pytest -m gpu

The command needs PyTorch, CUDA and NumPy, but no internet and no installation: if `iern` is not installed, it is
imported from this checkout. The kernel needs nvcc or a compiled image that the checkout ships. A piece that lacks
something else is skipped, and the reason is printed. Outputs are checked before anything is timed. Variants take turns.

The command writes the raw samples and the machine as JSON, and a page of tables beside it, after every configuration,
so that a late crash loses nothing. Run nothing else meanwhile. On a Jetson, set the power mode and run jetson_clocks
first. The faster TensorRT head is recorded for export/to_trt.py.

Exit status: 0 if everything that could run was right, even if pieces were skipped; 1 if a part failed, or there is no
GPU; 2 for wrong usage; 130 if interrupted.
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parse(argv)
    pieces, scale = plan(options.only or (), options.without or ()), QUICK if options.quick else Scale()
    if options.dry_run:
        print(listing(pieces, scale))
        return 0
    if reason := missing_reason("gpu"):
        raise IernError(f"{reason}; `python -m benchmarks.gpu_check --dry-run` lists what a GPU would run")
    path = options.json or _default_path(options.quick)
    refuse_conflicts({}, {"--json": path, "its page": path.with_suffix(".md")})
    try:
        results_file = ResultsFile(path, pieces, options.quick)
        with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
            from benchmarks.gpu_check.run import run_pieces  # late: --help should not wait for PyTorch

            run_pieces(results_file, Path(folder), "cuda", scale)
    except KeyboardInterrupt:
        print(f"interrupted; what was measured is in {path}", file=sys.stderr)
        return INTERRUPTED
    verdict = "some parts FAILED" if results_file.failed else "everything that ran was right"
    print(f"wrote {path} and {path.with_suffix('.md').name}; {verdict}")
    return int(results_file.failed)


def _default_path(quick: bool) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="gpu-check-")) if quick else RESULTS
    return folder / f"{slug(gpu_name())}.json"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks.gpu_check",
        description="On a machine with an NVIDIA GPU, check and time everything that needs one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("what runs").add_argument
    add("--dry-run", action="store_true", help="list what would run, and why pieces would be skipped")
    add("--quick", action="store_true", help="one size, few calls, into a temporary folder unless --json is given")
    add("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    add("--without", nargs="+", choices=SLOW, metavar="PIECE", help=f"of {', '.join(SLOW)} (default: none)")
    add = parser.add_argument_group("what is written").add_argument
    add("--json", type=json_path, metavar="FILE", help="default: benchmarks/results/<gpu>.json")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
