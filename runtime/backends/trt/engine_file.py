"""A TensorRT engine as files: the plan as TensorRT wrote it, and beside it what it was built from, for what, and where.

    office.fp16.engine         the plan alone, which trtexec reads too
    office.fp16.engine.json    the manifest
    office.fp16.engine.npz     weights of the averaging tail, where the plan ends before it (head `kernel`)

A plan serves one version of TensorRT, and one kind of GPU. What TensorRT does with another is not always an error, so
the manifest is compared before TensorRT sees the plan.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iern.runtime.artifact import Artifact
from iern.runtime.errors import ArtifactError, EngineError, one_line
from iern.runtime.system.files import atomic_path, sha256

FORMAT_VERSION = 1
HEADS = ("native", "kernel")
BACKENDS = {"tensorrt": "TensorRT", "rtx": "TensorRT for RTX"}
"""Backend -> its name for people."""


class TailWeights(NamedTuple):
    """The averaging tail's weights, see `iern.cpp_ext.tail_weights`."""

    weight: NDArray[np.float32]
    """(E, d, 10): of the sum of u, then of the nine window sums of h; (E, d, 1) where there is no h."""
    bias: NDArray[np.float32]
    """(E,)."""


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU and its driver."""

    name: str
    compute_capability: str
    """Such as sm_87."""
    cuda: str
    """Newest CUDA that the driver serves, such as 12.6."""
    driver: str = ""
    """The driver's own version, such as 560.35.03; empty where it is not known."""


@dataclass(frozen=True)
class EngineManifest:
    """What a plan was built from, for what, and where. Hashes are SHA-256 in hexadecimal."""

    metadata: Mapping[str, str]
    """The exported file's own, see `Artifact`."""
    onnx: str
    """Name of the exported file, without folders."""
    onnx_sha256: str
    plan_sha256: str
    tail_sha256: str
    """Empty for head `native`."""
    backend: str
    """`tensorrt` or `rtx`."""
    tensorrt: str
    """Its version."""
    head: str
    """`native`: the plan answers; `kernel`: it ends at the maps around the last ReLU, and the CUDA kernel answers."""
    precision: str
    """Of everything before the tail: `fp16` or `fp32`."""
    batches: tuple[int, int, int]
    """Smallest, usual and largest number of faces a call."""
    workspace: int
    """Bytes that TensorRT may use."""
    targets: tuple[str, ...] = ()
    """Compute capabilities that a plan of TensorRT for RTX was compiled for; none: compiled where it is loaded."""
    gpu: Gpu | None = None
    """Where it was built; none where there is no GPU."""
    parity: Mapping[str, Any] = field(default_factory=dict)
    """What the engine's own answers differed by, where they could be had."""


class EngineFile(NamedTuple):
    """What `read_engine` finds."""

    plan: bytes
    manifest: EngineManifest
    artifact: Artifact
    tail: TailWeights | None


def manifest_path(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}.json")


def tail_path(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}.npz")


def write_engine(path: Path, plan: bytes, manifest: EngineManifest, tail: TailWeights | None = None) -> EngineManifest:
    """Write a plan and what belongs to it; the manifest returned has the hashes of both filled in.

    Each file is whole or absent, and the manifest comes last: a reader refuses what does not bear its hashes.
    """
    packed = b"" if tail is None else _pack(tail)
    manifest = dataclasses.replace(
        manifest,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        tail_sha256=hashlib.sha256(packed).hexdigest() if packed else "",
    )
    text = json.dumps(
        {"format_version": FORMAT_VERSION, **dataclasses.asdict(manifest)}, indent=2, ensure_ascii=False, sort_keys=True
    )
    for target, content in (
        (path, plan),
        (tail_path(path), packed),
        (manifest_path(path), f"{text}\n".encode()),
    ):
        if content:
            with atomic_path(target) as temporary:
                temporary.write_bytes(content)
        else:
            target.unlink(missing_ok=True)  # of an engine with another head
    return manifest


def read_engine(path: Path) -> EngineFile:
    """Read a plan and what belongs to it.

    Raises ArtifactError where a part is missing, damaged, of another format, or does not belong to the others, the
    exported file included where it still lies beside the plan.
    """
    manifest = read_manifest(path)
    again = f"build it again: {build_command(path, manifest)}"
    plan = _read(path, again)
    if hashlib.sha256(plan).hexdigest() != manifest.plan_sha256:
        raise ArtifactError(f"{path}: is not the plan that its manifest describes; {again}")
    onnx = path.with_name(manifest.onnx)
    if onnx.is_file() and sha256(onnx) != manifest.onnx_sha256:
        raise ArtifactError(f"{path}: was built from another {manifest.onnx} than the one beside it; {again}")
    tail = None
    if manifest.head == "kernel":
        packed = _read(tail_path(path), again)
        if hashlib.sha256(packed).hexdigest() != manifest.tail_sha256:
            raise ArtifactError(f"{tail_path(path)}: are not the weights that belong to this plan; {again}")
        tail = _unpack(packed, f"{tail_path(path)}", again)
    return EngineFile(plan, manifest, Artifact.from_metadata(manifest.metadata, str(path)), tail)


def read_manifest(path: Path) -> EngineManifest:
    """The manifest of the plan at `path`. Raises ArtifactError where there is none that this runtime understands."""
    name = manifest_path(path)
    again = "build the engine again with export/to_trt.py"
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; check the path, or {again}")
    text = _read(name, f"copy it along with the engine, or {again}")
    try:
        values = json.loads(text)
        found = values.pop("format_version")
        if found != FORMAT_VERSION:
            raise ArtifactError(f"{name}: has format {found}, this runtime reads {FORMAT_VERSION}; {again}")
        gpu = values.pop("gpu")
        manifest = EngineManifest(
            **{**values, "batches": tuple(values["batches"]), "targets": tuple(values["targets"])},
            gpu=None if gpu is None else Gpu(**gpu),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{name}: damaged ({one_line(error)}); {again}") from error
    if manifest.backend not in BACKENDS or manifest.head not in HEADS or len(manifest.batches) != 3:
        found = f"backend {manifest.backend}, head {manifest.head}, batches {manifest.batches}"
        raise ArtifactError(f"{name}: says {found}, which this runtime does not understand; {again}")
    return manifest


def check_fits(path: Path, manifest: EngineManifest, tensorrt: str, gpu: Gpu) -> None:
    """Refuse a plan that was built for another version of TensorRT, or another GPU, than these.

    Raises EngineError with the command that builds it again.
    """
    title, again = BACKENDS[manifest.backend], f"build it again: {build_command(path, manifest)}"
    if tensorrt != manifest.tensorrt:
        raise EngineError(
            f"{path}: was built by {title} {manifest.tensorrt}, here is {tensorrt}, which does not read it; {again}"
        )
    if manifest.targets and gpu.compute_capability not in manifest.targets:
        raise EngineError(
            f"{path}: was built for {', '.join(manifest.targets)}, here is {gpu.name} ({gpu.compute_capability}); "
            f"{again}"
        )
    here = (gpu.name, gpu.compute_capability)
    if manifest.backend == "tensorrt" and (
        manifest.gpu is None or here != (manifest.gpu.name, manifest.gpu.compute_capability)
    ):
        built = "an unknown GPU" if manifest.gpu is None else f"{manifest.gpu.name} ({manifest.gpu.compute_capability})"
        raise EngineError(f"{path}: was built on {built}, here is {gpu.name} ({gpu.compute_capability}); {again}")


def build_command(path: Path, manifest: EngineManifest) -> str:
    """What builds the engine again from the exported file beside it, for the machine that it is typed on."""
    return " ".join(
        ["python -m iern.export.to_trt", str(path.with_name(manifest.onnx)), *build_arguments(path, manifest)]
    )


def build_arguments(path: Path, manifest: EngineManifest) -> list[str]:
    """Arguments of `to_trt.py`, behind the exported file, for an engine like this one here."""
    options = {
        "--backend": manifest.backend,
        "--head": manifest.head,
        "--max-batch": str(manifest.batches[-1]),
        "--output": str(path),
    }
    return [word for option in options.items() for word in option]


def _read(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error}); {remedy}") from error


def _pack(tail: TailWeights) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, weight=tail.weight, bias=tail.bias)
    return buffer.getvalue()


def _unpack(packed: bytes, name: str, again: str) -> TailWeights:
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            weight, bias = arrays["weight"], arrays["bias"]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{name}: damaged ({one_line(error)}); {again}") from error
    if weight.ndim != 3 or weight.shape[2] not in (1, 10) or bias.shape != weight.shape[:1]:
        raise ArtifactError(f"{name}: holds weights {weight.shape} and {bias.shape}; {again}")
    return TailWeights(weight.astype(np.float32), bias.astype(np.float32))
