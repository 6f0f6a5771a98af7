"""Command: exported file -> the same with an 8-bit trunk for CPUs, if it is as accurate and faster on this machine."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

import numpy as np
import onnx
from numpy.typing import NDArray

from iern.export.convert import write_artifact
from iern.export.parity.half_precision import SPREAD_LIMIT, compare_half
from iern.export.parity.model_outputs import ModelOutputs, joined, outputs_of_session, three_digits
from iern.runtime.artifact import INPUT_NAME
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.backends.speed_record import speed_up
from iern.runtime.checksum import with_checksum
from iern.runtime.errors import ArtifactError, ParityError
from iern.runtime.imaging.preprocess import read_faces
from iern.runtime.session import Session
from iern.runtime.system.arguments import Parser, positive
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.runtime.system.files import sha256, write_errors
from iern.train.data.manifest import LabelledFace, input_files, load_data
from iern.train.evaluation.bootstrap import intervals, resampling_units

EXAMPLES = """\
example:
  to_int8.py runtime/models/iern_edge.onnx --data ROOT      writes runtime/models/iern_edge.int8.onnx

Under that name the loop and the library find the new file beside the given one, and take it where it is faster
(webcam.py --precision auto). The new file records the SHA-256 of the given one: beside another model it is not taken.

ROOT is a data set as for train/fit.py. Its training faces give the range of values of each layer (static
quantisation, QDQ, weights per channel). The two files are compared on its validation faces.

Backbone and emotion generator compute in 8 bits. Head and tail stay in float32, because the differences
between strata are far smaller than a step of 8 bits. So the strata differ as before.

Nothing is written if the new file is less accurate by more than half a point, if the spread between strata
changes by more than 2 %, or if the new file is not faster on this machine. Run the command on the machine that
will use the file, or on one like it: a CPU without 8-bit dot products gains little, and on x86 without VNNI its sums
may saturate. The time is the processor's, so a busy machine does not matter. The file is of no use on a GPU.
"""

TRUNK = ("backbone", "generator")
"""The modules that compute in 8 bits."""
MEAN = "mean"
"""The constant that is subtracted from the pixels."""
FACES_PER_BATCH = 32
ACCURACY_LIMIT = 0.005
"""Largest loss of accuracy."""
REPEATS = 200
"""Calls with one face, alternating between the files."""


@dataclass(frozen=True)
class Int8Parity:
    """The gate's result on `faces` labelled faces."""

    faces: int
    accuracy: float
    """Of the given file."""
    change: float
    """Accuracy of the 8-bit file minus `accuracy`."""
    interval: list[float] | None
    """95 % bootstrap interval of `change`, paired."""
    agreement: float
    """Share of faces with the same first expression in both files."""
    spread: float
    """Spread between strata, over that of the given file."""
    faster: float
    """Processor time of one face with the given file, over that with the 8-bit file, on the machine that made it."""

    @property
    def failures(self) -> list[str]:
        """One line for each limit that is not kept. NaN keeps no limit."""
        checks = [
            (self.change >= -ACCURACY_LIMIT, f"accuracy falls by {-self.change:.2%}, limit {ACCURACY_LIMIT:.1%}"),
            (
                abs(self.spread - 1) <= SPREAD_LIMIT,
                f"the spread between strata is {self.spread:.3f} times the given file's, limit {SPREAD_LIMIT} from 1",
            ),
            (self.faster > 1, f"one face takes {1 / self.faster:.2f} times as long on this machine"),
        ]
        return [failure for kept, failure in checks if not kept]

    def __str__(self) -> str:
        bounds = "" if self.interval is None else " [{:+.2%}, {:+.2%}]".format(*self.interval)
        return (
            f"on {self.faces:,} faces: accuracy {self.accuracy:.2%}, in 8 bits {self.change:+.2%}{bounds}; "
            f"the same first expression {self.agreement:.2%}; spread between strata {self.spread:.4f}; "
            f"one face {self.faster:.2f} times as fast here"
        )

    def to_dict(self) -> dict[str, Any]:
        """The result in plain types for the artifact."""
        return three_digits(asdict(self))


def to_int8(source: Path, target: Path, data: Path, calibration: int) -> None:
    """Write `source` with an 8-bit trunk to `target`, and print how they compare.

    `calibration` is the largest number of training faces to calibrate on. Raises ArtifactError for a file that iern
    did not export, DataError for bad data, and ParityError if a limit is not kept. `target` then stays as it was.
    """
    with OnnxSession(source, provider="cpu", max_batch=FACES_PER_BATCH) as session:
        _check_float32(source)
        artifact = session.artifact
        faces = load_data(data, artifact.expressions)
        training, validation = faces.split("train"), faces.split("valid")
        evenly_spread = training[:: -(-len(training) // calibration)]
        content = quantised(source, read_faces((face.path for face in evenly_spread), artifact.input))
        with OnnxSession(content, provider="cpu", max_batch=FACES_PER_BATCH) as small:
            parity = compare(session, small, validation)
    if parity.failures:
        raise ParityError(f"{target} is not written: {'; '.join(parity.failures)} ({parity}); use {source} as it is")
    print(parity)
    described = dataclasses.replace(artifact, parity=parity.to_dict(), float_sha256=sha256(source))
    write_artifact(target, content, described, print)


def _check_float32(source: Path) -> None:
    """Raise ArtifactError for a file whose trunk is already in half precision or in 8 bits."""
    kinds = {tensor.data_type for tensor in onnx.load(source).graph.initializer}
    if kinds & {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8}:
        raise ArtifactError(
            f"{source}: its trunk is not in float32; use the file that to_trt.py writes with --precision fp32"
        )


def quantised(source: Path, faces: NDArray[np.uint8]) -> bytes:
    """The file with its trunk in 8 bits, and the same metadata. (n, S, S, 3) `faces` give each layer's range."""
    from onnxruntime import quantization  # late: behind iern.runtime, which turns its telemetry off
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, write_errors(folder), _without_warnings():
        plain, small = Path(folder, "plain.onnx"), Path(folder, "small.onnx")
        quant_pre_process(str(source), str(plain), skip_symbolic_shape=True)
        graph = onnx.load(plain).graph
        quantization.quantize_static(
            str(plain),
            str(small),
            CalibrationBatches(faces),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
            # A layer's range is the mean over the batches. By the largest of all faces, most values get coarser steps.
            extra_options={"CalibMovingAverage": True},
            nodes_to_exclude=[node.name for node in graph.node if not node.name.startswith(TRUNK)],
        )
        model = onnx.load(small)
    _spread_mean(model.graph, faces.shape[1])
    onnx.helper.set_model_props(model, {entry.key: entry.value for entry in onnx.load(source).metadata_props})
    return with_checksum(model.SerializeToString(deterministic=True))


def _spread_mean(graph: onnx.GraphProto, size: int) -> None:
    """Give the mean of the pixels, (1, 3, 1, 1), the size of the picture.

    onnxruntime keeps the picture's channels last here, and to repeat three numbers for each pixel takes a tenth of the
    whole time of the file.
    """
    for tensor in graph.initializer:
        if tensor.name == MEAN:
            mean = onnx.numpy_helper.to_array(tensor)
            full = np.ascontiguousarray(np.broadcast_to(mean, (*mean.shape[:2], size, size)))
            tensor.CopyFrom(onnx.numpy_helper.from_array(full, MEAN))


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide onnxruntime's warnings. It advises to pre-process the graph even after that is done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


class CalibrationBatches:
    """Faces in batches, as onnxruntime's calibration reads them: a `CalibrationDataReader` by its one method."""

    def __init__(self, faces: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = (
            faces[i : i + FACES_PER_BATCH] for i in range(0, len(faces), FACES_PER_BATCH)
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch. None after the last one."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}


def compare(given: Session, small: Session, faces: Sequence[LabelledFace]) -> Int8Parity:
    """The outputs and the speed of the 8-bit file, compared with those of the given file."""
    pairs: list[tuple[ModelOutputs, ModelOutputs]] = []
    for start in range(0, len(faces), FACES_PER_BATCH):
        images = read_faces((face.path for face in faces[start : start + FACES_PER_BATCH]), given.artifact.input)
        pairs.append((outputs_of_session(given, images), outputs_of_session(small, images)))
    first, second = map(joined, zip(*pairs, strict=True))
    labels = np.array([face.expression for face in faces])
    gains = (second.logits.argmax(1) == labels).astype(float) - (first.logits.argmax(1) == labels)

    def change(weights: NDArray[np.float64]) -> list[float]:
        return [float(weights @ gains / weights.sum())]

    parity = compare_half(first, second)
    return Int8Parity(
        faces=len(faces),
        accuracy=float(np.mean(first.logits.argmax(1) == labels)),
        change=float(gains.mean()),
        interval=intervals(change, resampling_units(faces))[0],
        agreement=parity.agreement,
        spread=parity.spread,
        faster=speed_up(given, small, images[:1], REPEATS, math.inf),
    )


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and return its exit status."""
    parser = Parser(
        prog="to_int8.py",
        description=__doc__.removeprefix("Command: "),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="float32 .onnx file written by export/to_trt.py")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="labelled faces, see below")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: beside the model, with the suffix .int8.onnx"
    )
    parser.add_argument(
        "--calibration",
        type=positive,
        default=512,
        metavar="N",
        help="largest number of training faces to calibrate on (default: 512)",
    )
    options = parser.parse_args(argv)
    target = options.output or options.model.with_suffix(".int8.onnx")
    refuse_conflicts({"MODEL": options.model, "--data": input_files(options.data)}, {"--output": target})
    to_int8(options.model, target, options.data, options.calibration)


if __name__ == "__main__":
    sys.exit(main())
