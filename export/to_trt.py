"""Command: checkpoint -> verified ONNX file beside it; or check a file exported before."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from iern.runtime.errors import IernError
from iern.runtime.files import sha256
from iern.runtime.options import DEMO_CLIP
from iern.runtime.threads import cpu_budget

EXAMPLES = """\
examples:
  to_trt.py runs/iern/ckpt.pt                  writes runs/iern/ckpt.onnx
  to_trt.py ckpt.pt -o models/office.onnx      writes it elsewhere
  to_trt.py ckpt.pt --faces photos/            the parity gate also sees your own faces
  to_trt.py ckpt.pt --licence CC-BY-NC-4.0 --data "CK+, 309 sequences"
  to_trt.py models/office.onnx                 checks a file exported before, changes nothing

What it does: bakes the confounder centres in, folds BatchNorm, colour order and scale, computes once
what the strata share (exact, no approximation), and exports one self-describing ONNX file. It then
sends the same faces through the network as it was trained (float64, one stratum after another) and
through the file in onnxruntime. Where they differ by more than rounding, nothing is written.

The file maps `image` (batch, S, S, 3), uint8 in OpenCV's BGR, to `probabilities` (batch, E),
`logits` (batch, E) and `stratum_logits` (batch, N, E), for any batch. Labels, input size, crop,
licence, metrics and the checkpoint's sha256 stand in its metadata.

Exit status: 0 when the file is written or sound; 1 with one line on stderr where it is not; 2 for
wrong usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(argv)
    try:
        if options.model.suffix == ".onnx":
            _verify(options)
        else:
            _convert(options)
    except IernError as error:
        return _failed(str(error))
    except OSError as error:
        return _failed(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="to_trt.py",
        description="Export a trained checkpoint for real-time use, and prove the result the same.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", type=Path, help="checkpoint written by train/fit.py, or an .onnx file to check")
    add("-o", "--output", type=Path, metavar="FILE.onnx", help="where to write (default: beside the checkpoint)")
    add(
        "--faces",
        type=Path,
        metavar="PATH",
        default=DEMO_CLIP,
        help="video, photograph or folder of photographs for the parity gate (default: the demo clip)",
    )
    add("--data", metavar="TEXT", help="what it was trained on, in words (default: as the checkpoint says)")
    add("--licence", metavar="TEXT", help="licence of the weights (default: as the checkpoint says)")
    return parser


def _convert(options: argparse.Namespace) -> None:
    import torch  # late: it takes seconds to import, and --help should not

    from iern.export.convert import convert

    torch.set_num_threads(cpu_budget())
    target = options.output or options.model.with_suffix(".onnx")
    if target.suffix != ".onnx":
        raise IernError(f"{target}: the output is an ONNX file; name it {target.with_suffix('.onnx')}")
    convert(options.model, target, options.faces, options.data, options.licence)
    print(f"wrote {target}: {target.stat().st_size / 1e6:.1f} MB, sha256 {sha256(target)}")
    print(_about_tensorrt())


def _verify(options: argparse.Namespace) -> None:
    from iern.export.convert import summary
    from iern.export.verify import verify

    if options.output or options.data or options.licence:
        raise IernError(f"{options.model}: is exported already and only checked; leave out -o, --data and --licence")
    artifact, count = verify(options.model, options.faces)
    print(f"{options.model}: {summary(artifact)}")
    print(f"sound: valid graph, all weights inside, {count} images answered by onnxruntime; nothing to convert")
    print(_about_tensorrt())


def _about_tensorrt() -> str:
    if importlib.util.find_spec("tensorrt") is None:
        return "TensorRT is not installed here: no engine is built, the ONNX file is complete without it"
    return "TensorRT engines are not built yet by this version: the ONNX file is complete without one"


def _failed(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
