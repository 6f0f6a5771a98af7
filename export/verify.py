"""An exported file held against the contract: whole, one file, ours, and running as its description says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from iern.export.faces import parity_faces
from iern.export.parity import Answers, answers_of_onnxruntime, softmax
from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, Artifact
from iern.runtime.errors import ArtifactError

TOLERANCE = 1e-5
"""largest difference between outputs of one file that must agree, in probability or over the range of the logits"""

Signature = dict[str, tuple[int, tuple[str | int, ...]]]
"""name: element type and shape"""


def verify(path: Path, faces: Path) -> tuple[Artifact, int]:
    """Read an exported file, check it and run it -> its description, and how many images of `faces` it answered.

    Raises ArtifactError, saying what is wrong, for a file that the runtime could not serve.
    """
    content, artifact = read_artifact(path)
    pictures = parity_faces(artifact.input, faces)
    try:
        answers = answers_of_onnxruntime(content, pictures)
    except Exception as error:  # onnxruntime has no public base class for its errors
        raise ArtifactError(f"{path}: onnxruntime cannot run it ({_one_line(error)}); export it again") from error
    _check_answers(path, answers, artifact)
    return artifact, len(pictures)


def read_artifact(path: Path) -> tuple[bytes, Artifact]:
    """Content and description of a file that is whole, keeps its weights inside, and has the contract's signature."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    if not content:
        raise ArtifactError(f"{path}: the file is empty (0 bytes); expected an ONNX file of export/to_trt.py")
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's DecodeError; protobuf is onnx's dependency, not ours
        raise ArtifactError(f"{path}: no ONNX file, or cut off ({_one_line(error)}); export it again") from error
    if outside := sorted(_outside_weights(model.graph)):
        raise ArtifactError(
            f"{path}: keeps weights in other files ({', '.join(outside)}), so that it would not work copied alone; "
            "export it with export/to_trt.py, which writes one file"
        )
    artifact = Artifact.from_metadata({entry.key: entry.value for entry in model.metadata_props}, str(path))
    _check_signature(path, model.graph, artifact)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(f"{path}: no valid ONNX graph ({_one_line(error)}); export it again") from error
    return content, artifact


def _outside_weights(graph: onnx.GraphProto) -> set[str]:
    """Files that hold weights of the graph."""
    return {
        entry.value
        for tensor in graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _check_signature(path: Path, graph: onnx.GraphProto, artifact: Artifact) -> None:
    strata, expressions = len(artifact.strata), len(artifact.expressions)
    shapes = [(expressions,), (expressions,), (strata, expressions)]
    expected: Signature = {INPUT_NAME: (TensorProto.UINT8, ("batch", *artifact.input.shape))}
    expected |= {name: (TensorProto.FLOAT, ("batch", *shape)) for name, shape in zip(OUTPUT_NAMES, shapes, strict=True)}
    found = _signature([*graph.input, *graph.output])
    if found != expected:
        raise ArtifactError(f"{path}: has {_in_words(found)}, expected {_in_words(expected)}; export it again")


def _signature(values: list[onnx.ValueInfoProto]) -> Signature:
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim),
        )
        for value in values
    }


def _in_words(signature: Signature) -> str:
    return ", ".join(
        f"{name} {TensorProto.DataType.Name(kind).lower()} ({', '.join(map(str, shape))})"
        for name, (kind, shape) in signature.items()
    )


def _check_answers(path: Path, answers: Answers, artifact: Artifact) -> None:
    """Refuse answers that are not numbers, or whose three outputs contradict each other."""
    if not all(np.isfinite(values).all() for values in answers):
        raise ArtifactError(f"{path}: answers NaN or infinity; its weights are damaged, train or export it again")
    scale = max(float(np.abs(answers.stratum_logits).max()), 1.0)
    if artifact.answer == "probabilities":
        probabilities = softmax(answers.stratum_logits / artifact.temperature).mean(axis=1)
    else:
        probabilities = softmax(answers.logits / artifact.temperature)
    errors = {
        "logits": float(np.abs(answers.stratum_logits.mean(axis=1) - answers.logits).max()) / scale,
        "probabilities": float(np.abs(probabilities - answers.probabilities).max()),
    }
    for name, error in errors.items():
        if error > TOLERANCE:
            raise ArtifactError(
                f"{path}: its {name} differ by {error:.1e} from what its description and its stratum_logits give; "
                "export it again"
            )


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) < 200 else text[:200] + "..."
