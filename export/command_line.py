"""The command line of `to_trt.py`. It imports no PyTorch, which takes seconds that --help should not wait for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from iern.runtime.backends.server_address import SERVED_NAME
from iern.runtime.backends.trt.engine_file import HEADS
from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.errors import IernError
from iern.runtime.session import MAX_BATCH
from iern.runtime.system.arguments import Parser, positive, prior, value_of

EXAMPLES = """\
examples:
  to_trt.py runs/iern/ckpt.pt                  writes runs/iern/ckpt.onnx, and with TensorRT
                                               installed ckpt.fp16.onnx and ckpt.fp16.engine
  to_trt.py ckpt.pt -o models/office.onnx      writes them elsewhere
  to_trt.py ckpt.pt --faces DATA               the parity gates use your own faces
  to_trt.py ckpt.pt --prior uniform            for a place where all expressions are equally frequent
  to_trt.py ckpt.pt --prior neutral=0.6        where 60 % are neutral; the others share the rest
  to_trt.py ckpt.pt --strata collapsed         writes ckpt.collapsed.onnx: as fast as with one stratum
  to_trt.py ckpt.pt --licence CC-BY-NC-4.0 --data "CK+, 309 sequences"
  to_trt.py ckpt.pt --precision fp16 --backend none
                                               both ONNX files, to build engines elsewhere
  to_trt.py office.fp16.onnx                   builds office.fp16.engine, without PyTorch: on a Jetson
  to_trt.py ckpt.pt --backend rtx --compute-capability sm_89 sm_120
                                               an engine for these GPUs, on a machine without one
  to_trt.py office.onnx --backend none         only checks an exported file
  to_trt.py ckpt.pt --triton models            writes ckpt.onnx, and models/iern/1 for a Triton server
  to_trt.py office.fp16.onnx --triton models --backend tensorrt
                                               builds office.fp16.engine, and serves that

The command bakes the confounder centres in. It folds BatchNorm, colour order and scale. It computes
once what the strata share (exact, no approximation), and exports one self-describing ONNX file. Then
it runs the same faces through the network as trained (float64, one stratum after another) and through
the file in onnxruntime. If the outputs differ by more than rounding, it writes nothing.

With --strata collapsed the file has one stratum, whose centre is the mean of the network's centres. So
the time does not grow with the number of strata. This is an approximation. On a thousand faces it must
keep 99.5 % of the first expressions, change none that leads by more than a thousandth, and move no
probability by more than 0.01; otherwise nothing is written. Such a file has no disagreement.

For engines it exports a second file. That one is in half precision, except for the sums over maps and
logits. On a thousand faces it must have the same first expressions as float64, the same spread between
strata, and no layer near the end of float16. TensorRT builds from this file and chooses no precision
of its own. If the engine can run on this machine, its outputs must equal the file's.

The files map `image` (batch, S, S, 3), uint8 in OpenCV's BGR, to `probabilities` (batch, E),
`logits` (batch, E) and `stratum_logits` (batch, N, E), for any batch. Their metadata holds labels,
input size, crop, licence, metrics and the checkpoint's sha256. An engine is TensorRT's plan, which
trtexec reads too. Beside it, FILE.engine.json records its source, its options and its GPU; with
--head kernel, FILE.engine.npz holds the weights of the averaging kernel.

With --triton, a copy of the ONNX file becomes the next version in that model repository, with its
configuration and its labels. If an option of the engine is given, the engine is built and copied
instead. A served engine must have been built with --triton, on the server's kind of GPU and with the
version of TensorRT in the server. webcam.py --model triton://HOST:8000/iern then uses the server.

Exit status: 0 if everything is written or sound; 1 with one line on stderr if not; 2 for wrong usage.
"""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments (default: those of the process) -> options. Raises IernError if they contradict each other."""
    options = _parser().parse_args(argv)
    _refuse_contradictions(options)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="to_trt.py",
        description="Export a trained checkpoint for real-time use, build its engine, and prove that the outputs are "
        "the same.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "model",
        type=Path,
        help="checkpoint written by train/fit.py, or an .onnx file of this command; with --triton also an .engine",
    )
    add(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="from a checkpoint: the .onnx file to write; from an .onnx file: the .engine (default: beside the model, "
        "with that suffix, or .collapsed.onnx)",
    )
    add(
        "--precision",
        choices=("fp16", "fp32"),
        help="of the graph that the engine is built from (default: fp16); without an engine, fp16 still writes the "
        "half-precision file",
    )
    add(
        "--strata",
        choices=("full", "collapsed"),
        default="full",
        help="compute every stratum of the confounder (full, the default), or one in their place, if the gate finds "
        "that it gives the same answers (collapsed)",
    )
    add(
        "--faces",
        type=Path,
        metavar="PATH",
        default=DEMO_CLIP,
        help="for the parity gates: a video, photograph or folder of photographs, or a data set as for train/fit.py "
        "(default: the demo clip); drawn faces fill up to a thousand",
    )
    add(
        "--triton",
        type=Path,
        metavar="REPO",
        help=f"also write the model as the next version of `{SERVED_NAME}` into the model repository of a Triton "
        "server, see docs/triton.md: the ONNX file, or the engine if an option of the engine is given",
    )
    _add_engine_options(parser)
    add(
        "--prior",
        type=value_of(prior),
        metavar="RATES",
        help="how frequent the expressions are where the files are used: uniform, or rates as "
        "neutral=0.6,happiness=0.2, where the others share the rest; the threshold stays (default: the rates that the "
        "checkpoint assumes)",
    )
    add = parser.add_argument_group("description of the files").add_argument
    add("--data", metavar="TEXT", help="the training data, in words (default: from the checkpoint)")
    add("--licence", metavar="TEXT", help="licence of the weights (default: from the checkpoint)")
    return parser


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("engine").add_argument
    add(
        "--backend",
        choices=("auto", "tensorrt", "rtx", "none"),
        default="auto",
        help="TensorRT, TensorRT for RTX (desktop cards), the first that is installed (default), or no engine",
    )
    add(
        "--head",
        choices=HEADS,
        help="computes everything after the last ReLU: TensorRT (native), or the averaging kernel of cpp_ext (kernel); "
        "default: the faster one, as measured by benchmarks.gpu_check on this machine, or native without a measurement",
    )
    add(
        "--compute-capability",
        nargs="+",
        metavar="SM",
        default=[],
        help="for rtx: the GPUs to compile for, such as sm_89; this machine needs none of them (default: any, compiled "
        "where the engine is loaded)",
    )
    add("--max-batch", type=positive, metavar="N", help=f"largest number of faces per call (default: {MAX_BATCH})")
    add("--workspace", type=positive, metavar="MIB", help="memory that TensorRT may use (default: 1024)")
    add(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help="keeps kernel times from build to build, for tensorrt only; those of another GPU or version are replaced",
    )
    add("--log", type=Path, metavar="FILE", help="write TensorRT's verbose log")


def _refuse_contradictions(options: argparse.Namespace) -> None:
    engine = {
        "--head": options.head,
        "--compute-capability": options.compute_capability,
        "--max-batch": options.max_batch,
        "--workspace": options.workspace,
        "--timing-cache": options.timing_cache,
        "--log": options.log,
    }
    given = [name for name, value in engine.items() if value]
    if options.backend == "none" and given:
        raise IernError(f"--backend none builds no engine; leave out {', '.join(given)}")
    # With an option of the engine, a missing engine is an error and not only a printed line.
    options.engine_required = options.backend in ("tensorrt", "rtx") or bool(given)
    if options.triton or options.model.suffix == ".engine":
        _refuse_for_triton(options)
    suffix = ".engine" if options.model.suffix == ".onnx" else ".onnx"
    if options.output and options.output.suffix != suffix:
        name = options.output.with_suffix(suffix)
        raise IernError(f"{options.output}: the output must end in {suffix}; name it {name}")


def _refuse_for_triton(options: argparse.Namespace) -> None:
    """Refuse what a Triton server cannot run, and set what follows from --triton."""
    if options.model.suffix == ".engine":
        others = ("output", "precision", "prior", "data", "licence")
        given = [f"--{name}" for name in others if getattr(options, name)]
        if options.triton is None:
            raise IernError(f"{options.model}: is an engine; --triton REPO writes it for a Triton server")
        if given or options.engine_required or options.strata == "collapsed":
            what = ", ".join(given) or "the other options"
            raise IernError(f"{options.model}: is an engine, which is copied as it is; leave out {what}")
    if options.backend == "rtx" or options.compute_capability or options.head == "kernel":
        raise IernError(
            "Triton runs neither engines of TensorRT for RTX nor the averaging kernel; leave out --backend rtx, "
            "--compute-capability and --head kernel"
        )
    if options.engine_required:
        options.backend, options.head = "tensorrt", "native"
    else:
        options.backend = "none"  # the server runs the ONNX file
