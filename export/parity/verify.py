"""Checks an exported file: whole, one file, written by iern, a valid graph, and outputs that agree with each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from iern.export.parity.gate_faces import GateFaces
from iern.export.parity.model_outputs import ModelOutputs, outputs_of_file
from iern.runtime.artifact import Artifact
from iern.runtime.checksum import check_content
from iern.runtime.errors import ArtifactError, one_line
from iern.runtime.intervention import average_over_strata

TOLERANCE = 1e-5
"""Largest contradiction between the outputs of one file, in probability or over the largest logit."""


def verify(path: Path, faces: GateFaces) -> tuple[onnx.ModelProto, Artifact, int]:
    """Check an exported file and run it -> its graph, its description, and the number of images that it was run on.

    Raises ArtifactError if the runtime cannot run the file.
    """
    model, artifact = read_exported(path)
    images = faces.few(artifact.input)
    _check_outputs(path, outputs_of_file(path, images), artifact)
    return model, artifact, len(images)


def read_exported(path: Path) -> tuple[onnx.ModelProto, Artifact]:
    """A file -> its graph and its description. Raises ArtifactError if it is not a valid graph with its weights."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    if not content:
        raise ArtifactError(f"{path}: is empty (0 bytes); expected an ONNX file written by export/to_trt.py")
    check_content(content, str(path))
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's DecodeError; protobuf is a dependency of onnx, not of iern
        raise ArtifactError(f"{path}: is no ONNX file, or is cut off ({one_line(error)}); export it again") from error
    if outside := sorted(_files_with_weights(model.graph)):
        raise ArtifactError(
            f"{path}: keeps weights in other files ({', '.join(outside)}), so it does not work without them; "
            "export the checkpoint with export/to_trt.py, which writes one file"
        )
    artifact = Artifact.from_metadata({entry.key: entry.value for entry in model.metadata_props}, str(path))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(f"{path}: has no valid ONNX graph ({one_line(error)}); export it again") from error
    return model, artifact


def summary(artifact: Artifact) -> str:
    """One line that describes the model: method, expressions, strata and input size."""
    kind = [
        f"{artifact.method}, preset {artifact.preset}" if artifact.preset else artifact.method,
        f"{len(artifact.expressions)} expressions ({', '.join(artifact.expressions)})",
        _strata(artifact),
        f"input {artifact.input.size}x{artifact.input.size}",
    ]
    return ", ".join(kind)


def _strata(artifact: Artifact) -> str:
    if artifact.collapsed_from:
        return f"1 stratum, collapsed from {artifact.collapsed_from}"
    return f"{len(artifact.strata)} strata ({', '.join(artifact.strata)})" if artifact.has_strata else "no strata"


def _files_with_weights(graph: onnx.GraphProto) -> set[str]:
    """The other files that hold weights of the graph."""
    outside = [tensor for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    return {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"}


def _check_outputs(path: Path, outputs: ModelOutputs, artifact: Artifact) -> None:
    """Raise ArtifactError if an output is not a number, or the three outputs contradict each other."""
    if not all(np.isfinite(values).all() for values in outputs):
        raise ArtifactError(f"{path}: gives NaN or infinity; its weights are damaged, export it or train it again")
    expected = average_over_strata(outputs.stratum_logits, artifact)
    largest_logit = max(float(np.abs(outputs.stratum_logits).max()), 1.0)
    contradictions = {
        "logits": float(np.abs(expected.logits - outputs.logits).max()) / largest_logit,
        "probabilities": float(np.abs(expected.probabilities - outputs.probabilities).max()),
    }
    for name, size in contradictions.items():
        if size > TOLERANCE:
            raise ArtifactError(
                f"{path}: its {name} differ by {size:.1e} from those that follow from its stratum logits and its "
                "description; export it again"
            )
