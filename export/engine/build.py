"""Exported file -> TensorRT engine: cut before the tail for head `kernel`, built, compared with the file, written."""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from iern.cpp_ext.tail_weights import TailWeights
from iern.export.engine.plan_builder import Backend, BuildOptions, OnStep, build_plan, capability, check_options
from iern.export.graph.cut import cut_before_tail
from iern.export.parity.gate_faces import GateFaces
from iern.export.parity.half_precision import HalfParity, compare_half
from iern.export.parity.model_outputs import outputs_of_file, outputs_of_session
from iern.export.parity.verify import read_exported
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.trt.engine_file import BACKENDS, EngineManifest, Gpu, write_engine
from iern.runtime.backends.trt.head_record import DEFAULT_HEAD, read_head
from iern.runtime.doctor.probes import run_probe
from iern.runtime.errors import EngineError, ParityError
from iern.runtime.system.files import sha256
from iern.runtime.system.machine import nvidia_driver


def build_engine(
    source: Path,
    target: Path,
    backend: Backend,
    options: BuildOptions,
    faces: GateFaces,
    on_step: OnStep | None = None,
    print_line: Callable[[str], None] = print,
) -> EngineManifest:
    """Build the engine `target` from the exported file `source`, whole or not at all, and return its manifest.

    If the engine can run on this machine, it runs on `faces`, and its outputs must equal the file's. Raises
    ArtifactError if iern did not export the file, EngineError if the engine cannot be built, and ParityError if its
    outputs differ. An older engine then stays as it was.
    """
    check_options(options, backend)
    gpu = check_machine(backend.name)
    version = str(backend.package.__version__)
    head = options.head or (DEFAULT_HEAD if gpu is None else read_head(gpu.name, version))
    model, artifact = read_exported(source)
    print_line(f"building for {_gpus(options, gpu)} with {BACKENDS[backend.name]} {version}, head {head}")
    graph, tail = (model, None) if head == "native" else cut_before_tail(model)
    plan = build_plan(graph.SerializeToString(), backend, options, on_step)
    manifest = EngineManifest(
        metadata=artifact.to_metadata(),
        onnx=source.name,
        onnx_sha256=sha256(source),
        plan_sha256="",
        tail_sha256="",
        backend=backend.name,
        tensorrt=backend.package.__version__,
        head=head,
        precision=precision_of(model),
        batches=options.batches,
        any_batch=options.any_batch,
        workspace=options.workspace,
        targets=tuple(f"sm_{capability(target)[2:]}" for target in options.targets),
        gpu=gpu,
    )
    reason = why_not_run(manifest)
    if reason:
        print_line(f"the engine's outputs are not checked: {reason}")
    else:
        parity = _compare_outputs(plan, manifest, tail, source, faces.many(artifact.input))
        print_line(f"the engine against {source.name} in onnxruntime, on {parity.faces} faces:\n{parity.table()}")
        if parity.failures:
            failures = "; ".join(parity.failures)
            raise ParityError(f"the engine's outputs differ from those of {source}, and it is not written; {failures}")
        manifest = dataclasses.replace(manifest, parity=parity.to_dict())
    return write_engine(target, plan, manifest, tail)


def check_machine(backend: str) -> Gpu | None:
    """The GPU of this machine, if any. Raises EngineError if the backend cannot build without one."""
    gpu = gpu_here()
    if backend == "tensorrt" and gpu is None:
        raise EngineError(
            "TensorRT builds for the GPU that it runs on, and there is none here; build on the machine that will run "
            "the engine, or with --backend rtx; python -m iern.runtime.doctor shows what is missing"
        )
    return gpu


def gpu_here() -> Gpu | None:
    """The first GPU of this machine. None if the driver finds none."""
    found = run_probe("cuda")
    if not found.get("gpus"):
        return None
    first = found["gpus"][0]
    return Gpu(first["name"], f"sm_{first['sm'].replace('.', '')}", found["version"], nvidia_driver())


def precision_of(model: onnx.ModelProto) -> str:
    """`fp16` if any weight is in half precision, else `fp32`."""
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return "fp16" if half else "fp32"


def why_not_run(manifest: EngineManifest) -> str:
    """The reason why the engine cannot run on the machine that built it. Empty if it can."""
    if manifest.gpu is None:
        return "there is no GPU here"
    if manifest.targets and manifest.gpu.compute_capability not in manifest.targets:
        return f"it was not built for this machine's {manifest.gpu.name} ({manifest.gpu.compute_capability})"
    if importlib.util.find_spec("pycuda") is None:
        return "pycuda is not installed; pip install pycuda, which the runtime needs for the engine too"
    return ""


def _compare_outputs(
    plan: bytes, manifest: EngineManifest, tail: TailWeights | None, source: Path, faces: NDArray[np.uint8]
) -> HalfParity:
    """The engine, opened as the runtime opens it, compared with the file in onnxruntime on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checked.engine"
        write_engine(path, plan, manifest, tail)
        with open_session(path) as session:
            return compare_half(outputs_of_file(source, faces), outputs_of_session(session, faces))


def _gpus(options: BuildOptions, gpu: Gpu | None) -> str:
    if options.targets:
        return ", ".join(options.targets)
    return "any supported GPU" if gpu is None else f"{gpu.name} ({gpu.compute_capability})"
