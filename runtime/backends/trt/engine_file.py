"""A TensorRT engine as files: the plan as TensorRT wrote it, and a manifest of its origin and target.

    office.fp16.engine         the plan alone, which trtexec reads too
    office.fp16.engine.json    the manifest
    office.fp16.engine.npz     weights of the averaging tail, if the plan ends before it (head `kernel`)
    office.fp16.engine.times   times of TensorRT's kernels, if the engine was built again; only builds read it

A plan runs on one version of TensorRT and one model of GPU. TensorRT does not always refuse other plans, so the
manifest is checked before TensorRT reads the plan.
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

from iern.cpp_ext.tail_weights import TailWeights
from iern.runtime.artifact import Artifact
from iern.runtime.errors import ArtifactError, EngineError, one_line
from iern.runtime.system.files import atomic_path, sha256

FORMAT_VERSION = 2
HEADS = ("native", "kernel")
BACKENDS = {"tensorrt": "TensorRT", "rtx": "TensorRT for RTX"}
"""Backend -> its name in messages."""


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU and its driver."""

    name: str
    compute_capability: str
    """Such as sm_87."""
    cuda: str
    """The newest CUDA version that the driver supports, such as 12.6."""
    driver: str = ""
    """The version of the driver, such as 560.35.03. Empty if unknown."""


@dataclass(frozen=True)
class EngineManifest:
    """The origin and the target of a plan. Hashes are SHA-256 in hexadecimal."""

    metadata: Mapping[str, str]
    """The metadata of the exported file, see `Artifact`."""
    onnx: str
    """Name of the exported file, without folders."""
    onnx_sha256: str
    plan_sha256: str
    tail_sha256: str
    """Empty for head `native`."""
    backend: str
    """`tensorrt` or `rtx`."""
    tensorrt: str
    """The version of TensorRT."""
    head: str
    """`native`: the plan gives the outputs. `kernel`: it ends at the maps, and the CUDA kernel gives them."""
    precision: str
    """Precision of everything before the tail: `fp16` or `fp32`."""
    batches: tuple[int, ...]
    """Numbers of faces per call, ascending: an optimization profile for each, in this order."""
    workspace: int
    """Bytes that TensorRT may use."""
    targets: tuple[str, ...] = ()
    """Compute capabilities of a plan of TensorRT for RTX. Empty: it is compiled when it is loaded."""
    gpu: Gpu | None = None
    """The GPU of the machine that built the plan. None without a GPU."""
    any_batch: bool = False
    """Whether a call may also have a number of faces between those of `batches`, as on a server."""
    parity: Mapping[str, Any] = field(default_factory=dict)
    """Differences between the engine's outputs and those of its exported file, if they could be measured."""


class EngineFile(NamedTuple):
    """The contents of an engine's files."""

    plan: bytes
    manifest: EngineManifest
    artifact: Artifact
    tail: TailWeights | None


def manifest_path(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}.json")


def tail_path(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}.npz")


def times_path(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}.times")


def files_of_engine(engine: Path) -> tuple[Path, Path, Path]:
    """The paths of the plan, its manifest and its weights."""
    return engine, manifest_path(engine), tail_path(engine)


def write_engine(path: Path, plan: bytes, manifest: EngineManifest, tail: TailWeights | None = None) -> EngineManifest:
    """Write a plan, its weights and its manifest -> the manifest with the hashes of both.

    Each file is written whole or not at all, the manifest last. A reader refuses files with other hashes.
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
        (manifest_path(path), f"{text}\n".encode("utf-8", "backslashreplace")),  # names may have bytes that are no text
    ):
        if content:
            with atomic_path(target) as temporary:
                temporary.write_bytes(content)
        else:
            target.unlink(missing_ok=True)  # weights of an earlier engine with head `kernel`
    return manifest


def read_engine(path: Path) -> EngineFile:
    """Read a plan, its manifest and its weights.

    Raises ArtifactError if a file is missing, damaged, of another format, or does not belong to the others. This
    includes the exported file if it is still beside the plan.
    """
    manifest = read_manifest(path)
    remedy = f"build it again: {build_command(path, manifest)}"
    plan = _read(path, remedy)
    if hashlib.sha256(plan).hexdigest() != manifest.plan_sha256:
        raise ArtifactError(f"{path}: is not the plan that its manifest describes; {remedy}")
    onnx = path.with_name(manifest.onnx)
    if onnx.is_file() and sha256(onnx) != manifest.onnx_sha256:
        raise ArtifactError(f"{path}: was built from another {manifest.onnx} than the one beside it; {remedy}")
    tail = None
    if manifest.head == "kernel":
        packed = _read(tail_path(path), remedy)
        if hashlib.sha256(packed).hexdigest() != manifest.tail_sha256:
            raise ArtifactError(f"{tail_path(path)}: are not the weights that belong to this plan; {remedy}")
        tail = _unpack(packed, f"{tail_path(path)}", remedy)
    return EngineFile(plan, manifest, Artifact.from_metadata(manifest.metadata, str(path)), tail)


def read_manifest(path: Path) -> EngineManifest:
    """Read the manifest of the plan at `path`. Raises ArtifactError if it is missing, damaged or not supported."""
    name = manifest_path(path)
    remedy = "build the engine again with export/to_trt.py"
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; check the path, or {remedy}")
    text = _read(name, f"copy it along with the engine, or {remedy}")
    try:
        values = json.loads(text)
        found = values.pop("format_version")
        if found != FORMAT_VERSION:
            raise ArtifactError(f"{name}: has format {found}, this runtime reads {FORMAT_VERSION}; {remedy}")
        gpu = values.pop("gpu")
        manifest = EngineManifest(
            **{**values, "batches": tuple(values["batches"]), "targets": tuple(values["targets"])},
            gpu=None if gpu is None else Gpu(**gpu),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{name}: damaged ({one_line(error)}); {remedy}") from error
    if manifest.backend not in BACKENDS or manifest.head not in HEADS or not manifest.batches:
        found = f"backend {manifest.backend}, head {manifest.head}, batches {manifest.batches}"
        raise ArtifactError(f"{name}: has {found}, which this runtime does not support; {remedy}")
    return manifest


def check_fits(path: Path, manifest: EngineManifest, tensorrt: str, gpu: Gpu) -> None:
    """Raise EngineError if the plan was built for another version of TensorRT or another GPU.

    The error has the command that builds the engine again.
    """
    title, remedy = BACKENDS[manifest.backend], f"build it again: {build_command(path, manifest)}"
    if tensorrt != manifest.tensorrt:
        raise EngineError(
            f"{path}: was built by {title} {manifest.tensorrt}, here is {tensorrt}, which does not read it; {remedy}"
        )
    if manifest.targets and gpu.compute_capability not in manifest.targets:
        raise EngineError(
            f"{path}: was built for {', '.join(manifest.targets)}, here is {gpu.name} ({gpu.compute_capability}); "
            f"{remedy}"
        )
    here = (gpu.name, gpu.compute_capability)
    if manifest.backend == "tensorrt" and (
        manifest.gpu is None or here != (manifest.gpu.name, manifest.gpu.compute_capability)
    ):
        built = "an unknown GPU" if manifest.gpu is None else f"{manifest.gpu.name} ({manifest.gpu.compute_capability})"
        raise EngineError(f"{path}: was built on {built}, here is {gpu.name} ({gpu.compute_capability}); {remedy}")


def build_command(path: Path, manifest: EngineManifest) -> str:
    """Return the command that builds the engine again, from the exported file beside it, on the present machine."""
    return " ".join(
        ["python -m iern.export.to_trt", str(path.with_name(manifest.onnx)), *build_arguments(path, manifest)]
    )


def build_arguments(path: Path, manifest: EngineManifest) -> list[str]:
    """Return the arguments of `to_trt.py`, after the exported file, that build such an engine on this machine."""
    options = {
        "--backend": manifest.backend,
        "--head": manifest.head,
        "--max-batch": str(manifest.batches[-1]),
        "--output": str(path),
    }
    if manifest.backend == "tensorrt":  # the other one measures nothing
        options["--timing-cache"] = str(times_path(path))
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


def _unpack(packed: bytes, name: str, remedy: str) -> TailWeights:
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            weight, bias = arrays["weight"], arrays["bias"]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{name}: damaged ({one_line(error)}); {remedy}") from error
    if weight.ndim != 3 or weight.shape[2] not in (1, 10) or bias.shape != weight.shape[:1]:
        found = f"weights {weight.shape} and bias {bias.shape}"
        raise ArtifactError(f"{name}: has {found}, expected (E, d, 1 or 10) and (E,); {remedy}")
    return TailWeights(weight.astype(np.float32), bias.astype(np.float32))
