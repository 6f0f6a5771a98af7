"""Checkpoint -> verified ONNX file: deconfounded, exported, held against the network it came from, then written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import onnx

from iern.export.deconfound import deconfound
from iern.export.faces import parity_faces
from iern.export.parity import check_parity
from iern.export.to_onnx import export_onnx, with_metadata
from iern.runtime.artifact import Artifact
from iern.runtime.errors import CheckpointError, ParityError
from iern.runtime.files import atomic_path, sha256
from iern.train.checkpoint import Checkpoint, load_checkpoint, versions
from iern.train.model import Baseline

PACKAGES = ("iern", "torch", "timm", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu")


def convert(
    source: Path,
    target: Path,
    faces: Path,
    data: str | None = None,
    licence: str | None = None,
    say: Callable[[str], None] = print,
) -> Artifact:
    """Export the checkpoint `source` to `target`, whole or not at all, and return what the file says about itself.

    `faces` is a video, image or folder for the parity gate, `data` and `licence` replace what the checkpoint says of
    its training, and `say` takes lines of progress. Raises CheckpointError for a bad checkpoint, SourceError or
    DataError for bad faces, and ParityError where the file would not answer as the network does; `target` is then
    left as it was.
    """
    checkpoint = load_checkpoint(source)
    model = _model(checkpoint, source)
    artifact = describe(checkpoint, source, data, licence)
    say(f"{source}: {summary(artifact)}")
    pictures = parity_faces(artifact.input, faces)
    graph = export_onnx(deconfound(model, artifact.temperature), artifact)
    parity = check_parity(model, graph, pictures, artifact.temperature)
    say(f"parity with the sequential network in float64, on {parity.faces} images:\n{parity.table()}")
    if not parity.passed:
        raise ParityError(
            f"{source}: the exported graph does not answer as the network does, and nothing was written; "
            + "; ".join(parity.failures)
        )
    artifact = dataclasses.replace(artifact, parity=parity.to_dict())
    with atomic_path(target) as temporary:
        temporary.write_bytes(
            with_metadata(onnx.load_from_string(graph), artifact).SerializeToString(deterministic=True)
        )
    return artifact


def describe(checkpoint: Checkpoint, source: Path, data: str | None = None, licence: str | None = None) -> Artifact:
    """What the file will say about itself; `source` is the checkpoint's file, `data` and `licence` as for `convert`.

    Raises ArtifactError where the runtime would not understand it.
    """
    config, provenance = checkpoint.config, checkpoint.provenance
    artifact = Artifact(
        expressions=config.expressions,
        strata=config.strata if config.method == "iern" else ("all",),
        input=config.input,
        method=config.method,
        preset=config.preset,
        answer=config.answer,
        temperature=checkpoint.temperature,
        data=_without_folders(str(provenance.get("data", ""))) if data is None else data,
        licence=str(provenance.get("licence", "")) if licence is None else licence,
        metrics=checkpoint.metrics,
        checkpoint_sha256=sha256(source),
        versions=versions(*PACKAGES),
    )
    return Artifact.from_metadata(artifact.to_metadata(), str(source))


def summary(artifact: Artifact) -> str:
    """One line on what kind of model it is."""
    kind = [
        f"{artifact.method}, preset {artifact.preset}" if artifact.preset else artifact.method,
        f"{len(artifact.expressions)} expressions ({', '.join(artifact.expressions)})",
        f"{len(artifact.strata)} strata ({', '.join(artifact.strata)})" if len(artifact.strata) > 1 else "no strata",
        f"input {artifact.input.size}x{artifact.input.size}",
    ]
    return ", ".join(kind)


def _model(checkpoint: Checkpoint, source: Path) -> Baseline:
    try:
        return checkpoint.model()
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}; train it again") from error
    except (RuntimeError, ValueError) as error:  # what timm raises for a backbone it does not know
        raise CheckpointError(f"{source}: its network cannot be built here ({error}); update timm") from error


def _without_folders(data: str) -> str:
    """Words stay; of an absolute path only the last part, since the rest is about somebody's machine."""
    return Path(data).name if Path(data).is_absolute() else data
