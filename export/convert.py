"""Checkpoint -> verified ONNX files: deconfounded, exported, held against the network they came from, then written."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx
import torch

from iern.export.graph.deconfound import deconfound
from iern.export.graph.onnx_graph import export_onnx, with_metadata
from iern.export.parity.exact import check_parity
from iern.export.parity.gate_faces import many_faces, parity_faces
from iern.export.parity.half_twin import Track, check_half_parity
from iern.export.parity.verify import summary
from iern.runtime.artifact import Artifact
from iern.runtime.errors import CheckpointError, ParityError
from iern.runtime.system.files import atomic_path, sha256
from iern.train.network.checkpoint import Checkpoint, load_checkpoint, versions
from iern.train.network.iern import Baseline

PACKAGES = ("iern", "torch", "timm", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu")


def convert(
    source: Path,
    target: Path,
    faces: Path,
    data: str | None = None,
    licence: str | None = None,
    half: bool = False,
    say: Callable[[str], None] = print,
    track: Track = iter,
) -> list[Path]:
    """Export the checkpoint `source` to `target`, and with `half` to `half_path(target)` too -> the files written.

    `faces` is a video, image, folder or data set for the parity gates, `data` and `licence` replace what the checkpoint
    says of its training, `say` takes lines of progress and `track` may wrap the batches of the longer gate. Raises
    CheckpointError for a bad checkpoint, SourceError or DataError for bad faces, and ParityError where a file would
    not answer as the network does; that file is then left as it was.
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
    write_artifact(target, graph, dataclasses.replace(artifact, parity=parity.to_dict()), say)
    if not half:
        return [target]
    many = many_faces(artifact.input, faces)
    graph = export_onnx(deconfound(model, artifact.temperature, trunk=torch.float16), artifact)
    of_half = check_half_parity(model, graph, many, artifact.temperature, track)
    say(f"half precision against float64, on {of_half.faces} images:\n{of_half.table()}")
    if of_half.failures:
        raise ParityError(
            f"{source}: in half precision it would not answer as the network does, and {half_path(target)} was not "
            f"written; use --precision fp32; {'; '.join(of_half.failures)}"
        )
    write_artifact(half_path(target), graph, dataclasses.replace(artifact, parity=of_half.to_dict()), say)
    return [target, half_path(target)]


def half_path(target: Path) -> Path:
    """Where the file in half precision goes: office.onnx -> office.fp16.onnx."""
    return target.with_suffix(".fp16.onnx")


def write_artifact(target: Path, graph: bytes, artifact: Artifact, say: Callable[[str], None]) -> None:
    """Write a graph with this description, whole or not at all, and say its size and checksum."""
    content = with_metadata(onnx.load_from_string(graph), artifact).SerializeToString(deterministic=True)
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
    say(f"wrote {target}: {len(content) / 1e6:.1f} MB, sha256 {hashlib.sha256(content).hexdigest()}")


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
        threshold=checkpoint.threshold,
        data=_without_folders(str(provenance.get("data", ""))) if data is None else data,
        licence=str(provenance.get("licence", "")) if licence is None else licence,
        metrics=checkpoint.metrics,
        checkpoint_sha256=sha256(source),
        versions=versions(*PACKAGES),
    )
    return Artifact.from_metadata(artifact.to_metadata(), str(source))


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
