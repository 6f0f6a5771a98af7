"""Command: on a machine with an NVIDIA GPU, check and time everything that needs one."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from iern.runtime.system.command import INTERRUPTED, command

from benchmarks import RESULTS
from benchmarks.common.results import json_path
from benchmarks.gpu_check.machine import gpu_name, missing_reason, slug
from benchmarks.gpu_check.plan import PARTS, QUICK, SLOW, Piece, Scale, TimeLeft, listing, plan
from benchmarks.gpu_check.results_file import ResultsFile
from iern.runtime.errors import IernError
from iern.runtime.system.arguments import Parser, positive
from iern.runtime.system.file_conflicts import refuse_conflicts

EXAMPLES = """\
examples:
  python -m benchmarks.gpu_check --dry-run        list what would run here, and why the rest is skipped; needs no GPU
  python -m benchmarks.gpu_check                  everything; an hour or two, mostly torch.compile in the last stages
  python -m benchmarks.gpu_check --seconds 400    the stages that fit into 400 seconds, the proofs first
  python -m benchmarks.gpu_check --quick          does it run? minutes; its numbers mean nothing
  python -m benchmarks.gpu_check --only models    one stage, and what it needs of another
  python -m benchmarks.gpu_check --without torch.compile     minutes, not an hour, if there is no TensorRT

stages, in this order:
  kernel   the averaging kernel compared with float64, built by nvcc and from a shipped image
  engines  engines of the shipped half-precision file with either head, compared with it on a thousand faces
  replay   1 to 20 faces: a replayed CUDA graph gives the bits of the single calls, and the answers of the CPU
  models   the bundled model with 1, 4 and 16 faces in turns: the published way in PyTorch, the exact network in half
           precision in a CUDA graph, onnxruntime, both engines with and without a CUDA graph; by CUDA events
  loop     the loop, headless, on the bundled clip: its records compared with those of a loop on the CPU
  tests    pytest -m gpu
  tails    what follows the last ReLU: layers, window sums, the kernel
  heads    g_r and f_c from an emotion feature: published one stratum after another, batched, exact, and exact
           with the kernel. Both for both presets' sizes, N 4 (the bundled model's), 1, 3 and 10, batch 1, 4, 16,
           FP32 and FP16; eager, CUDA graph, torch.compile

The command needs PyTorch, CUDA and NumPy, but no internet and no installation: if `iern` is not installed, it is
imported from this checkout. A piece that lacks something is skipped, and the reason is in the report: without TensorRT
the rest proves onnxruntime's CUDA provider, the kernel and PyTorch's CUDA graphs, and without onnxruntime-gpu the rest
of that. Outputs are checked before anything is timed. Variants take turns.

The command writes the raw samples and the machine as JSON, and a page of tables beside it, after every piece and every
size, so that a late crash loses nothing. With --seconds it starts nothing when the time is up, and ends its programs.
Run nothing else meanwhile. On a Jetson, set the power mode and run jetson_clocks first. The faster TensorRT head, for
one face by the GPU's time, is recorded for export/to_trt.py.

Exit status: 0 if everything that could run was right, even if pieces were skipped or not reached; 1 if something
failed, or there is no GPU; 2 for wrong usage; 130 if interrupted.
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parse(argv)
    pieces = plan(options.only or (), options.without or ())
    scale = (QUICK if options.quick else Scale()).within(options.seconds)
    if options.dry_run:
        print(listing(pieces, scale))
        return 0
    if options.json:
        refuse_conflicts({}, {"--json": options.json, "its page": options.json.with_suffix(".md")})
    if reason := missing_reason("gpu"):
        _report_nothing(reason, pieces, scale, options.json)
    left = TimeLeft(options.seconds)
    path = options.json or _default_path(options.quick)
    try:
        results_file = ResultsFile(path, pieces, options.quick, options.seconds)
        with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
            from benchmarks.gpu_check.run import run_pieces  # late: --help should not wait for PyTorch

            run_pieces(results_file, Path(folder), "cuda", scale, left)
    except KeyboardInterrupt:
        print(f"interrupted; what was measured is in {path}", file=sys.stderr)
        return INTERRUPTED
    verdict = "some pieces FAILED" if results_file.failed else "everything that ran was right"
    print(f"wrote {path} and {path.with_suffix('.md').name}; {results_file.counts()}; {verdict}")
    return int(results_file.failed)


def _report_nothing(reason: str, pieces: list[Piece], scale: Scale, path: Path | None) -> NoReturn:
    """Print why nothing runs, and write it if a file was named. Raises IernError."""
    print(listing(pieces, scale), flush=True)
    written = ""
    if path is not None and not missing_reason("torch"):
        ResultsFile(path, pieces, quick=False)
        written = f"; {path} has the reason of every piece"
    raise IernError(f"{reason}, and nothing ran; run this on a machine with an NVIDIA GPU{written}")


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
    add("--seconds", type=positive, metavar="S", help="begin nothing after S seconds (default: no limit)")
    add("--only", nargs="+", choices=PARTS, metavar="STAGE", help=f"of {', '.join(PARTS)} (default: all)")
    add("--without", nargs="+", choices=SLOW, metavar="PIECE", help=f"of {', '.join(SLOW)} (default: none)")
    add = parser.add_argument_group("what is written").add_argument
    add("--json", type=json_path, metavar="FILE", help="default: benchmarks/results/<gpu>.json")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
