"""Command: an exported file -> the same with an 8-bit trunk for CPUs, if it is as accurate and faster here."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from iern.export.convert import write_artifact
from iern.export.parity.answers import ModelOutputs, answers_of_session, three_digits
from iern.export.parity.half import SPREAD_LIMIT, compare_half
from iern.runtime.artifact import INPUT_NAME
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.errors import ArtifactError, IernError, ParityError, report
from iern.runtime.imaging.preprocess import read_faces
from iern.runtime.session import Session
from iern.runtime.system.arguments import positive
from iern.train.data.manifest import LabelledFace, load_data
from iern.train.evaluation.bootstrap import drawn_units, intervals

EXAMPLES = """\
example:
  to_int8.py runtime/models/iern_edge.onnx --data ROOT      writes runtime/models/iern_edge.int8.onnx

ROOT is a data set as train/fit.py takes it. Its training faces show what values each layer takes (static
quantisation, QDQ, weights per channel); on its validation faces the two files are compared.

Backbone and emotion generator compute in 8 bits. The intervention does not: what the strata change is far
smaller than a step of 8 bits, so head and tail stay in float32, and the strata differ as they did.

Nothing is written where the new file is less accurate by more than half a point, where the strata's spread
changes by more than 2 %, or where it is not faster on this machine. Run it on the machine that will use the
file, or on one of its kind: a CPU without 8-bit dot products (x86 without VNNI) gains little and may answer
otherwise, and such a file is of no use on a GPU.
"""

TRUNK = ("backbone", "generator")
"""Modules that compute in 8 bits."""
BATCH = 32
ACCURACY_LIMIT = 0.005
"""Largest loss of accuracy."""
REPEATS = 200
"""Calls with one face, of each file in turn."""


@dataclass(frozen=True)
class Int8Parity:
    """What the gate found on `faces` labelled faces."""

    faces: int
    accuracy: float
    """Of the file given."""
    change: float
    """Accuracy of the 8-bit file minus that."""
    interval: list[float] | None
    """95 % bootstrap interval of `change`, paired."""
    agreement: float
    """Share of faces with the same first expression in both."""
    spread: float
    """Spread between strata, over that of the file given."""
    faster: float
    """Time of one face with the file given, over that of the 8-bit file, on the machine that made it."""

    @property
    def failures(self) -> list[str]:
        """One line for each limit that is not kept; NaN keeps none."""
        checks = [
            (self.change >= -ACCURACY_LIMIT, f"accuracy falls by {-self.change:.2%}, at most {ACCURACY_LIMIT:.1%}"),
            (abs(self.spread - 1) <= SPREAD_LIMIT, f"the strata spread {self.spread:.3f} times as wide"),
            (self.faster > 1, f"a face takes {1 / self.faster:.2f} times as long on this machine"),
        ]
        return [found for kept, found in checks if not kept]

    def __str__(self) -> str:
        bounds = "" if self.interval is None else " [{:+.2%}, {:+.2%}]".format(*self.interval)
        return (
            f"on {self.faces:,} faces: accuracy {self.accuracy:.2%}, in 8 bits {self.change:+.2%}{bounds}; "
            f"the same first expression {self.agreement:.2%}; spread between strata {self.spread:.4f}; "
            f"one face {self.faster:.2f} times as fast here"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types for the artifact."""
        return three_digits(asdict(self))


def to_int8(source: Path, target: Path, data: Path, calibration: int) -> None:
    """Write `source` with an 8-bit trunk to `target`, calibrated on so many training faces, and say what was found.

    Raises ArtifactError for a file that is no artifact, DataError for bad data, and ParityError where the result does
    not keep the limits; `target` is then left as it was.
    """
    with OnnxSession(source, provider="cpu", max_batch=BATCH) as session:
        _check_float32(source)
        artifact = session.artifact
        faces = load_data(data, artifact.expressions)
        training, validation = faces.split("train"), faces.split("valid")
        looked_at = training[:: -(-len(training) // calibration)]
        content = quantised(source, read_faces((record.path for record in looked_at), artifact.input))
        with OnnxSession(content, provider="cpu", max_batch=BATCH) as small:
            found = compare(session, small, validation)
    if found.failures:
        raise ParityError(f"{target} is not written: {'; '.join(found.failures)} ({found}); use {source} as it is")
    print(found)
    write_artifact(target, content, dataclasses.replace(artifact, parity=found.to_dict()), print)


def _check_float32(source: Path) -> None:
    """Raise ArtifactError for a file whose trunk is in half precision or in 8 bits already."""
    kinds = {tensor.data_type for tensor in onnx.load(source).graph.initializer}
    if kinds & {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8}:
        raise ArtifactError(f"{source}: its trunk is not in float32; give the file that to_trt.py writes with fp32")


def quantised(source: Path, faces: NDArray[np.uint8]) -> bytes:
    """The graph with its trunk in 8 bits; (n, S, S, 3) faces show the values that each layer takes. Metadata stay."""
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        plain, small = Path(folder, "plain.onnx"), Path(folder, "small.onnx")
        quant_pre_process(str(source), str(plain), skip_symbolic_shape=True)
        graph = onnx.load(plain).graph
        quantize_static(
            str(plain),
            str(small),
            Batches(faces),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            nodes_to_exclude=[node.name for node in graph.node if not node.name.startswith(TRUNK)],
        )
        made = onnx.load(small)
    onnx.helper.set_model_props(made, {entry.key: entry.value for entry in onnx.load(source).metadata_props})
    return made.SerializeToString(deterministic=True)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Without onnxruntime's advice to pre-process, which it also gives where that was done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


class Batches(CalibrationDataReader):
    """Faces as onnxruntime's calibration asks for them."""

    def __init__(self, faces: NDArray[np.uint8]) -> None:
        self._left: Iterator[NDArray[np.uint8]] = (faces[i : i + BATCH] for i in range(0, len(faces), BATCH))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch; None after the last."""
        batch = next(self._left, None)
        return None if batch is None else {INPUT_NAME: batch}


def compare(given: Session, small: Session, records: Sequence[LabelledFace]) -> Int8Parity:
    """How the 8-bit file answers and how fast it is, beside the one given."""
    parts: list[tuple[ModelOutputs, ModelOutputs]] = []
    for start in range(0, len(records), BATCH):
        faces = read_faces((record.path for record in records[start : start + BATCH]), given.artifact.input)
        parts.append((answers_of_session(given, faces), answers_of_session(small, faces)))
    first, second = (ModelOutputs(*map(np.concatenate, zip(*side, strict=True))) for side in zip(*parts, strict=True))
    labels = np.array([record.expression for record in records])
    gains = (second.logits.argmax(1) == labels).astype(float) - (first.logits.argmax(1) == labels)

    def change(weights: NDArray[np.float64]) -> list[float]:
        return [float(weights @ gains / weights.sum())]

    parity = compare_half(first, second)
    return Int8Parity(
        faces=len(records),
        accuracy=float(np.mean(first.logits.argmax(1) == labels)),
        change=float(gains.mean()),
        interval=intervals(change, drawn_units(records))[0],
        agreement=parity.agreement,
        spread=parity.spread,
        faster=speed_up(given, small, faces[:1]),
    )


def speed_up(given: Session, small: Session, face: NDArray[np.uint8]) -> float:
    """Median time of one face with the one over that with the other, called in turn."""
    times: tuple[list[float], list[float]] = [], []
    for _ in range(REPEATS):
        for session, own in zip((given, small), times, strict=True):
            start = time.perf_counter()
            session(face)
            own.append(time.perf_counter() - start)
    return statistics.median(times[0]) / statistics.median(times[1])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="to_int8.py", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="float32 .onnx file of export/to_trt.py")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="labelled faces, see below")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: beside it, with .int8.onnx")
    parser.add_argument(
        "--calibration", type=positive, default=512, metavar="N", help="training faces to look at (default 512)"
    )
    options = parser.parse_args(argv)
    target = options.output or options.model.with_suffix(".int8.onnx")
    try:
        to_int8(options.model, target, options.data, options.calibration)
    except (IernError, OSError) as error:
        return report(error)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
