"""Command: checkpoint -> verified ONNX file and TensorRT engine; or exported file -> engine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from iern.export.engine.plan import BuildOptions, check_options, load_backend
from iern.runtime.backends.trt.engine_file import HEADS
from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.errors import EngineError, IernError, report
from iern.runtime.system.arguments import positive
from iern.runtime.system.cpu_budget import cpu_budget

EXAMPLES = """\
examples:
  to_trt.py runs/iern/ckpt.pt                  writes runs/iern/ckpt.onnx, and where TensorRT is
                                               installed ckpt.fp16.onnx and ckpt.fp16.engine
  to_trt.py ckpt.pt -o models/office.onnx      writes them elsewhere
  to_trt.py ckpt.pt --faces DATA               the parity gates see your own faces
  to_trt.py ckpt.pt --licence CC-BY-NC-4.0 --data "CK+, 309 sequences"
  to_trt.py ckpt.pt --precision fp16 --backend none
                                               both ONNX files, to build engines elsewhere
  to_trt.py office.fp16.onnx                   builds office.fp16.engine, without PyTorch: on a Jetson
  to_trt.py ckpt.pt --backend rtx --compute-capability sm_89 sm_120
                                               an engine for these GPUs, on a machine without one
  to_trt.py office.onnx --backend none         only checks a file exported before

What it does: bakes the confounder centres in, folds BatchNorm, colour order and scale, computes once
what the strata share (exact, no approximation), and exports one self-describing ONNX file. It then
sends the same faces through the network as it was trained (float64, one stratum after another) and
through the file in onnxruntime. Where they differ by more than rounding, nothing is written.

For engines it exports a second file, in half precision but for the sums over maps and logits, and
holds it against float64 on a thousand faces: the same first expressions, the same spread between
strata, no layer near the end of float16. TensorRT builds from it, choosing no precision of its own,
and where the engine can run on this machine, it must answer as the file does.

The files map `image` (batch, S, S, 3), uint8 in OpenCV's BGR, to `probabilities` (batch, E),
`logits` (batch, E) and `stratum_logits` (batch, N, E), for any batch. Labels, input size, crop,
licence, metrics and the checkpoint's sha256 stand in their metadata. An engine is TensorRT's plan
alone, which trtexec reads; beside it stand FILE.engine.json, which says what it was built from, for
what and where, and with --head kernel FILE.engine.npz, the weights of the averaging kernel.

Exit status: 0 when all is written or sound; 1 with one line on stderr where it is not; 2 for wrong
usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(argv)
    try:
        _refuse_contradictions(options)
        if options.model.suffix == ".onnx":
            _from_exported(options)
        else:
            _from_checkpoint(options)
    except (IernError, OSError) as error:
        return report(error)
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="to_trt.py",
        description="Export a trained checkpoint for real-time use, build its engine, and prove the results the same.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", type=Path, help="checkpoint written by train/fit.py, or an .onnx file that this command wrote")
    add(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="of a checkpoint the .onnx, of an .onnx the .engine to write (default: beside it, with that suffix)",
    )
    add(
        "--faces",
        type=Path,
        metavar="PATH",
        default=DEMO_CLIP,
        help="for the parity gates: a video, photograph or folder of photographs, or a data set as train/fit.py takes "
        "it (default: the demo clip); where they are fewer than a thousand, drawn faces fill up",
    )
    add("--data", metavar="TEXT", help="what it was trained on, in words (default: as the checkpoint says)")
    add("--licence", metavar="TEXT", help="licence of the weights (default: as the checkpoint says)")
    add(
        "--precision",
        choices=("fp16", "fp32"),
        help="of the graph that the engine is built from (default: fp16); given without an engine, fp16 still writes "
        "the half-precision file",
    )
    _add_engine_options(parser)
    return parser


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("engine").add_argument
    add(
        "--backend",
        choices=("auto", "tensorrt", "rtx", "none"),
        default="auto",
        help="TensorRT, TensorRT for RTX (desktop cards), whichever is installed (default), or no engine",
    )
    add(
        "--head",
        choices=HEADS,
        help="who computes what follows the last ReLU: TensorRT, or the averaging kernel of cpp_ext; default: what "
        "benchmarks.gpu_check found faster on this machine, TensorRT until then",
    )
    add(
        "--compute-capability",
        nargs="+",
        metavar="SM",
        default=[],
        help="with rtx: the GPUs to compile for, such as sm_89, none of which is needed here (default: any, compiled "
        "where the engine is loaded)",
    )
    add("--max-batch", type=positive, metavar="N", help="most faces a call (default: 16)")
    add("--workspace", type=positive, metavar="MIB", help="memory that TensorRT may use (default: 1024)")
    add("--timing-cache", type=Path, metavar="FILE", help="kernel times kept between builds, with tensorrt only")
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
    # Who says how an engine shall be wants one: then its absence is a failure, and not only said.
    options.wants_engine = options.backend in ("tensorrt", "rtx") or bool(given)
    suffix = ".engine" if options.model.suffix == ".onnx" else ".onnx"
    if options.output and options.output.suffix != suffix:
        raise IernError(f"{options.output}: the output ends in {suffix}; name it {options.output.with_suffix(suffix)}")


def _from_checkpoint(options: argparse.Namespace) -> None:
    import torch  # late: it takes seconds to import, and --help should not

    from iern.export.convert import convert
    from iern.export.progress import track_faces

    backend = _backend(options)
    torch.set_num_threads(cpu_budget())
    target = options.output or options.model.with_suffix(".onnx")
    precision = options.precision or ("fp16" if isinstance(backend, tuple) else "fp32")
    written = convert(
        options.model,
        target,
        options.faces,
        options.data,
        options.licence,
        half=precision == "fp16",
        track=track_faces,
    )
    _build(options, backend, written[-1], written[-1].with_suffix(".engine"))


def _from_exported(options: argparse.Namespace) -> None:
    from iern.export.engine.build import precision_of
    from iern.export.parity.verify import summary, verify

    if options.data or options.licence:
        raise IernError(f"{options.model}: is exported already; leave out --data and --licence")
    backend = _backend(options)
    graph, artifact, count = verify(options.model, options.faces)
    precision = precision_of(graph)
    if options.precision not in (None, precision):
        raise IernError(
            f"{options.model}: is {precision}, and an engine has the precision of its file; export the checkpoint "
            f"with --precision {options.precision}, or take its other file"
        )
    print(f"{options.model}: {summary(artifact)}, {precision}")
    print(f"sound: valid graph, all weights inside, {count} images answered by onnxruntime")
    _build(options, backend, options.model, options.output or options.model.with_suffix(".engine"))


def _backend(options: argparse.Namespace) -> tuple[str, ModuleType] | str:
    """The backend's name and package, or why there is none. Raises EngineError for one that was asked for."""
    from iern.export.engine.build import refuse_machine

    if options.backend == "none":
        return "as asked"
    wanted = "rtx" if options.compute_capability and options.backend == "auto" else options.backend
    try:
        name, trt = load_backend(wanted)
        check_options(_build_options(options), name, trt)
        refuse_machine(name)
    except EngineError as error:
        if options.wants_engine:
            raise
        return str(error)
    return name, trt


def _build(options: argparse.Namespace, backend: tuple[str, ModuleType] | str, source: Path, target: Path) -> None:
    from iern.export.engine.build import build_engine
    from iern.export.progress import build_bars

    if isinstance(backend, str):
        print(f"no engine is built: {backend}; the ONNX file is complete without one")
        return
    with build_bars() as on_step:
        manifest = build_engine(source, target, backend, options.head, _build_options(options), options.faces, on_step)
    print(f"wrote {target}: {target.stat().st_size / 1e6:.1f} MB, sha256 {manifest.plan_sha256}")


def _build_options(options: argparse.Namespace) -> BuildOptions:
    largest = options.max_batch or 16
    return BuildOptions(
        batches=(1, min(4, largest), largest),
        workspace=(options.workspace or 1024) << 20,
        targets=tuple(options.compute_capability),
        timing_cache=options.timing_cache,
        log=options.log,
    )


if __name__ == "__main__":
    sys.exit(main())
