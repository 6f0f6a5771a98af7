"""An exported file checked again: whole, one file, ours, a valid graph, and outputs that agree with one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from iern.export.parity.answers import ModelOutputs, answers_of_onnxruntime, softmax
from iern.export.parity.gate_faces import parity_faces
from iern.runtime.artifact import Artifact
from iern.runtime.errors import ArtifactError, one_line

TOLERANCE = 1e-5
"""Largest contradiction between outputs of one file, in probability or over the largest logit."""


def verify(path: Path, faces: Path) -> tuple[onnx.ModelProto, Artifact, int]:
    """Check an exported file and run it -> its graph and description, and how many images of `faces` it answered.

    Raises ArtifactError, saying what is wrong, for a file that the runtime could not serve.
    """
    model, artifact = read_exported(path)
    pictures = parity_faces(artifact.input, faces)
    _check_answers(path, answers_of_onnxruntime(path, pictures), artifact)
    return model, artifact, len(pictures)


def read_exported(path: Path) -> tuple[onnx.ModelProto, Artifact]:
    """A file and what it says about itself, if it is a whole and valid graph with all of its weights inside."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    if not content:
        raise ArtifactError(f"{path}: is empty (0 bytes); expected an ONNX file written by export/to_trt.py")
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's DecodeError; protobuf is onnx's dependency, not ours
        raise ArtifactError(f"{path}: no ONNX file, or cut off ({one_line(error)}); export it again") from error
    if outside := sorted(_files_with_weights(model.graph)):
        raise ArtifactError(
            f"{path}: keeps weights in other files ({', '.join(outside)}), so that it does not work copied alone; "
            "export the checkpoint with export/to_trt.py, which writes one file"
        )
    artifact = Artifact.from_metadata({entry.key: entry.value for entry in model.metadata_props}, str(path))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(f"{path}: no valid ONNX graph ({one_line(error)}); export it again") from error
    return model, artifact


def summary(artifact: Artifact) -> str:
    """One line on what kind of model it is."""
    kind = [
        f"{artifact.method}, preset {artifact.preset}" if artifact.preset else artifact.method,
        f"{len(artifact.expressions)} expressions ({', '.join(artifact.expressions)})",
        f"{len(artifact.strata)} strata ({', '.join(artifact.strata)})" if len(artifact.strata) > 1 else "no strata",
        f"input {artifact.input.size}x{artifact.input.size}",
    ]
    return ", ".join(kind)


def _files_with_weights(graph: onnx.GraphProto) -> set[str]:
    """Files beside this one in which weights of the graph lie."""
    outside = [tensor for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    return {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"}


def _check_answers(path: Path, answers: ModelOutputs, artifact: Artifact) -> None:
    """Refuse answers that are not numbers, or whose three outputs contradict each other."""
    if not all(np.isfinite(values).all() for values in answers):
        raise ArtifactError(f"{path}: answers NaN or infinity; its weights are damaged, export or train it again")
    if artifact.answer == "probabilities":
        probabilities = softmax(answers.stratum_logits / artifact.temperature).mean(axis=1)
    else:
        probabilities = softmax(answers.logits / artifact.temperature)
    largest_logit = max(float(np.abs(answers.stratum_logits).max()), 1.0)
    contradictions = {
        "logits": float(np.abs(answers.stratum_logits.mean(axis=1) - answers.logits).max()) / largest_logit,
        "probabilities": float(np.abs(probabilities - answers.probabilities).max()),
    }
    for name, size in contradictions.items():
        if size > TOLERANCE:
            raise ArtifactError(
                f"{path}: its {name} are off by {size:.1e} from what its other outputs and its description give; "
                "export it again"
            )
