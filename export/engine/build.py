"""An exported file -> a TensorRT engine: cut where the kernel takes over, built, held against the file, written."""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from iern.export.engine.plan import BuildOptions, OnStep, build_plan, capability, check_options
from iern.export.graph.cut import cut_before_tail
from iern.export.parity.answers import answers_of_onnxruntime, answers_of_session
from iern.export.parity.gate_faces import many_faces
from iern.export.parity.half import compare_half
from iern.export.parity.verify import read_exported
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.trt.engine_file import BACKENDS, EngineManifest, Gpu, TailWeights, write_engine
from iern.runtime.backends.trt.head_record import UNKNOWN, read_head
from iern.runtime.doctor.probes import ask
from iern.runtime.errors import EngineError, ParityError
from iern.runtime.system.files import sha256
from iern.runtime.system.machine import nvidia_driver


def build_engine(
    source: Path,
    target: Path,
    backend: tuple[str, ModuleType],
    head: str | None,
    options: BuildOptions,
    faces: Path,
    on_step: OnStep | None = None,
    say: Callable[[str], None] = print,
) -> EngineManifest:
    """Build the engine `target` from the exported file `source`, whole or not at all, and return its manifest.

    `backend` is what `load_backend` gives, `head` one of HEADS, none: the one that was found faster with this GPU and
    TensorRT, and `faces` a source for `many_faces`.
    Where the engine can run on this machine, it answers them, and must answer as the file does. Raises ArtifactError
    for a file that is none of ours, EngineError where the engine cannot be built, ParityError where it answers
    otherwise; `target` is then left as it was.
    """
    name, trt = backend
    check_options(options, name, trt)
    gpu = refuse_machine(name)
    if head is None:
        head = UNKNOWN if gpu is None else read_head(gpu.name, str(trt.__version__))
    model, artifact = read_exported(source)
    say(f"building for {_aim(options, gpu)} with {BACKENDS[name]} {trt.__version__}, head {head}")
    graph, tail = (model, None) if head == "native" else cut_before_tail(model)
    plan = build_plan(graph.SerializeToString(), name, trt, options, on_step)
    manifest = EngineManifest(
        metadata=artifact.to_metadata(),
        onnx=source.name,
        onnx_sha256=sha256(source),
        plan_sha256="",
        tail_sha256="",
        backend=name,
        tensorrt=trt.__version__,
        head=head,
        precision=precision_of(model),
        batches=options.batches,
        workspace=options.workspace,
        targets=tuple(f"sm_{capability(target)[2:]}" for target in options.targets),
        gpu=gpu,
    )
    reason = why_not_run(manifest)
    if reason:
        say(f"the engine's own answers are not checked: {reason}")
    else:
        manifest = dataclasses.replace(
            manifest, parity=_check(plan, manifest, tail, source, many_faces(artifact.input, faces), say)
        )
    return write_engine(target, plan, manifest, tail)


def refuse_machine(backend: str) -> Gpu | None:
    """The GPU here, if any. Raises EngineError where the backend cannot build without one."""
    gpu = gpu_here()
    if backend == "tensorrt" and gpu is None:
        raise EngineError(
            "TensorRT builds for the GPU that it runs on, and there is none here; build on the machine that will run "
            "the engine, or with --backend rtx; python -m iern.runtime.doctor.__main__ says what is missing"
        )
    return gpu


def gpu_here() -> Gpu | None:
    """The first GPU of this machine, none where the driver shows none."""
    found = ask("cuda")
    if not found.get("gpus"):
        return None
    first = found["gpus"][0]
    return Gpu(first["name"], f"sm_{first['sm'].replace('.', '')}", found["version"], nvidia_driver())


def precision_of(model: onnx.ModelProto) -> str:
    """`fp16` where any weight is in half precision, else `fp32`."""
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return "fp16" if half else "fp32"


def why_not_run(manifest: EngineManifest) -> str:
    """Why the engine cannot run where it was built, empty where it can."""
    if manifest.gpu is None:
        return "there is no GPU here"
    if manifest.targets and manifest.gpu.compute_capability not in manifest.targets:
        return f"it is not for this machine's {manifest.gpu.name} ({manifest.gpu.compute_capability})"
    if importlib.util.find_spec("pycuda") is None:
        return "pycuda is not installed; pip install pycuda, which running the engine needs too"
    return ""


def _check(
    plan: bytes,
    manifest: EngineManifest,
    tail: TailWeights | None,
    source: Path,
    faces: NDArray[np.uint8],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """How far the engine, opened as the runtime opens it, is from the file in onnxruntime on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checked.engine"
        write_engine(path, plan, manifest, tail)
        with open_session(path) as session:
            parity = compare_half(answers_of_onnxruntime(source, faces), answers_of_session(session, faces))
    say(f"the engine against {source.name} in onnxruntime, on {parity.faces} faces:\n{parity.table()}")
    if parity.failures:
        raise ParityError(f"the engine does not answer as {source}, and is not written; " + "; ".join(parity.failures))
    return parity.to_dict()


def _aim(options: BuildOptions, gpu: Gpu | None) -> str:
    if options.targets:
        return ", ".join(options.targets)
    return "any GPU that it knows" if gpu is None else f"{gpu.name} ({gpu.compute_capability})"
