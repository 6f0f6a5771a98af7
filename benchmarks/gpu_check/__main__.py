"""Command: on a machine with an NVIDIA GPU, prove and measure all that needs one; see `--help`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import RESULTS
from benchmarks.gpu_check.machine import gpu_name, lacks, slug
from benchmarks.gpu_check.plan import PARTS, QUICK, SLOW, Scale, listed, plan
from benchmarks.gpu_check.record import Run

EXAMPLES = """\
examples:
  python -m benchmarks.gpu_check --dry-run        what would run here, and why the rest is skipped; needs no GPU
  python -m benchmarks.gpu_check                  everything; an hour or two, mostly torch.compile and TensorRT builds
  python -m benchmarks.gpu_check --quick          does it run? minutes; its numbers mean nothing
  python -m benchmarks.gpu_check --only heads     one part
  python -m benchmarks.gpu_check --without torch.compile     minutes, not an hour, where there is no TensorRT

parts:
  kernel   the averaging kernel's answers against float64, built by nvcc and from a shipped image
  tails    what follows the last ReLU: layers, window sums, the kernel
  heads    g_r and f_c from an emotion feature: published one stratum after another, batched, exact, and exact
           with the kernel; both presets' sizes, N 1, 3, 10, batch 1, 4, 16, FP32 and FP16; eager, CUDA graph,
           torch.compile
  models   the bundled network from face to probabilities: PyTorch, onnxruntime, TensorRT with either head
  tests    pytest -m gpu

It needs PyTorch, CUDA and NumPy, no internet and no installation: `iern` is taken from this checkout where it is
not installed. The kernel needs nvcc or a compiled image that the checkout ships. What else is missing is skipped,
and the reason said. Answers are checked before anything is timed, and variants take turns in one run.

Written after every configuration, so that a crash late keeps what was measured: the raw samples and the machine as
JSON, and a page of tables beside it. Leave the machine alone meanwhile, and on a Jetson set the power mode and run
jetson_clocks first. Which TensorRT head was faster is remembered for export/to_trt.py.

Exit status: 0 when everything that could run agreed, with what is skipped or without; 1 when a part failed, or
there is no GPU; 2 for wrong usage; 130 when interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parse(argv)
    pieces, scale = plan(options.only or (), options.without or ()), QUICK if options.quick else Scale()
    if options.dry_run:
        print(listed(pieces, scale))
        return 0
    if reason := lacks("gpu"):
        print(f"error: {reason}; `gpu_check.py --dry-run` lists what would run where there is one", file=sys.stderr)
        return 1
    path = options.json or _default_path(options.quick)
    try:
        run = Run(path, pieces, options.quick)
        with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
            from benchmarks.gpu_check.run import run_pieces  # late: --help should not wait for PyTorch

            run_pieces(run, Path(folder), "cuda", scale)
    except KeyboardInterrupt:
        print(f"interrupted; what was measured is in {path}", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {error.filename or path}: {error.strerror or error}", file=sys.stderr)
        return 1
    print(f"wrote {path} and {path.with_suffix('.md').name}; " + ("something FAILED" if run.failed else "all agreed"))
    return int(run.failed)


def _default_path(quick: bool) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="gpu-check-")) if quick else RESULTS
    return folder / f"{slug(gpu_name())}.json"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check",
        description="On a machine with an NVIDIA GPU, prove and measure all that needs one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--dry-run", action="store_true", help="list what would run, and why each skipped part is skipped")
    add("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    add("--without", nargs="+", choices=SLOW, metavar="PIECE", help=f"of {', '.join(SLOW)} (default: none)")
    add("--json", type=_json_file, metavar="FILE", help="default: benchmarks/results/<gpu>.json")
    add("--quick", action="store_true", help="one size, few calls, into a temporary folder unless --json is given")
    return parser.parse_args(argv)


def _json_file(text: str) -> Path:
    """A path whose neighbour with the suffix .md is another file."""
    if not text.endswith(".json"):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .json")
    return Path(text)


if __name__ == "__main__":
    sys.exit(main())
