"""Where onnxruntime runs a graph: its providers, their settings, and the order in which they are tried.

A provider takes the whole graph or none of it. onnxruntime by itself falls back in two ways, both silent to the
caller: single operations go to the CPU, and so does everything where a GPU's library does not load.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from iern.runtime.errors import SessionError, one_line
from iern.runtime.system.files import cache_folder

if TYPE_CHECKING:
    import onnxruntime

Model = Path | str | bytes
"""An exported file, or its content."""

GPU_BUILD = "pip uninstall onnxruntime, then pip install 'iern[gpu]'"
BATCH_AXIS = "batch"
"""The name that the exporter gives to the one axis without a fixed size."""


@dataclass(frozen=True)
class Provider:
    """One of onnxruntime's execution providers."""

    title: str
    """Its name for people."""
    name: str
    """Its name in onnxruntime."""
    device: str
    """Where its tensors lie, in onnxruntime's words."""
    check: str = ""
    """What to look at where it fails."""


PROVIDERS = {
    "cpu": Provider("the CPU", "CPUExecutionProvider", "cpu"),
    "cuda": Provider("CUDA", "CUDAExecutionProvider", "cuda", "nvidia-smi, CUDA and cuDNN"),
    "tensorrt": Provider("TensorRT", "TensorrtExecutionProvider", "cuda", "nvidia-smi and TensorRT's libnvinfer"),
}

KERNELS = {
    "prefer_nhwc": "1",  # the order that tensor cores want, and the input has; in the wheels since 1.21
    # `EXHAUSTIVE` times every algorithm at each start; what wins, and so the rounding, changes from start to start.
    "cudnn_conv_algo_search": "HEURISTIC",
}
"""CUDA's options for one operation after the other."""


def provider_order(provider: str, available: Collection[str]) -> list[str]:
    """What to try for `auto` or a key of PROVIDERS, best first; `available` are onnxruntime's names of what it has.

    The CPU serves always and comes last. `auto` does not take TensorRT, which first builds engines for minutes.
    """
    if provider not in ("auto", *PROVIDERS):
        raise SessionError(f"unknown provider {provider!r}; expected auto, {', '.join(PROVIDERS)}")
    if provider == "auto":
        return ["cuda", "cpu"] if PROVIDERS["cuda"].name in available else ["cpu"]
    return {"cpu": ["cpu"], "cuda": ["cuda", "cpu"], "tensorrt": ["tensorrt", "cuda", "cpu"]}[provider]


def import_onnxruntime() -> ModuleType:
    """onnxruntime, which logs errors alone from here on. Raises SessionError with the remedy where there is none."""
    try:
        import onnxruntime
    except ImportError as error:
        raise SessionError(
            f"onnxruntime cannot be imported ({ort_message(error)}); pip install 'iern[cpu]', or 'iern[gpu]' for NVIDIA"
        ) from error
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def load_on_cpu(ort: ModuleType, model: Model, threads: int) -> onnxruntime.InferenceSession:
    """The graph on the CPU, for any batch. Raises whatever onnxruntime raises."""
    return _create(ort, model, _options(ort, threads), PROVIDERS["cpu"].name)


def load_on_gpu(ort: ModuleType, model: Model, key: str, threads: int, batch: int) -> onnxruntime.InferenceSession:
    """The graph on the provider of that key, all of it, for exactly `batch` faces.

    With every shape known, CUDA can replay the run as one graph, and TensorRT needs no profile of sizes.
    Raises SessionError where any operation would run on the CPU, or the provider does not load.
    """
    provider = PROVIDERS[key]
    if provider.name not in ort.get_available_providers():
        raise SessionError(f"this onnxruntime was built without {provider.title}; {GPU_BUILD}")
    _preload_cuda(ort)
    options = _options(ort, threads)
    options.log_severity_level = 4  # what fails here is raised, and another provider may follow
    options.add_free_dimension_override_by_name(BATCH_AXIS, batch)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if provider.device != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        graph = _create(ort, model, options, *with_settings(key, model, batch))
    except Exception as error:  # onnxruntime's own exceptions share no other base
        raise SessionError(cannot(provider, ort_message(error))) from error
    if graph.get_providers()[0] != provider.name:
        raise SessionError(cannot(provider, "onnxruntime could not load it"))
    if not takes_part(graph, provider.name):
        raise SessionError(cannot(provider, "it knows none of the operations"))
    return graph


def with_settings(key: str, model: Model, batch: int) -> list[tuple[str, dict[str, str]]]:
    """onnxruntime's names of the providers that run a model together, best first, each with its options."""
    provider = PROVIDERS[key]
    if key == "tensorrt":
        # What TensorRT does not know, CUDA runs beside it. A CUDA graph must be of one provider alone.
        folder = engine_folder(model)
        own = folder / f"batch{batch}"  # onnxruntime names an engine after its operations, not after their shapes
        own.mkdir(parents=True, exist_ok=True)
        engines = {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(own),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }
        return [(provider.name, engines), (PROVIDERS["cuda"].name, KERNELS)]
    # At one face, launching the kernels one by one takes longer than they run.
    return [(provider.name, {**KERNELS, "enable_cuda_graph": "1"})]


def engine_folder(model: Model) -> Path:
    """Where onnxruntime keeps the engines that TensorRT builds of this model: a folder for each content.

    It does not look at weights, and would serve a retrained model of the same name with the old ones.
    """
    content = model if isinstance(model, bytes) else Path(model).read_bytes()
    return cache_folder() / "tensorrt" / hashlib.sha256(content).hexdigest()[:16]


def takes_part(graph: onnxruntime.InferenceSession, name: str) -> bool:
    """Whether a provider runs any operation; True where this onnxruntime cannot tell (before 1.24)."""
    if not hasattr(graph, "get_provider_graph_assignment_info"):
        return True
    return any(part.ep_name == name for part in graph.get_provider_graph_assignment_info())


def cannot(provider: Provider, reason: str) -> str:
    """The sentence for a provider that failed, with what to check."""
    return f"{provider.title} cannot run all of it ({reason}); check {provider.check}"


def ort_message(error: Exception) -> str:
    """onnxruntime's message on one line without its prefix and the final stop."""
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", one_line(error, longest=1000)).rstrip(".")


def _options(ort: ModuleType, threads: int) -> onnxruntime.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Left to itself, onnxruntime counts the machine's cores, pins a thread to each, and logs each one it may not pin.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while the detector works take its cores: 40 % of its speed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _create(
    ort: ModuleType, model: Model, options: onnxruntime.SessionOptions, *providers: str | tuple[str, dict[str, str]]
) -> onnxruntime.InferenceSession:
    source = model if isinstance(model, bytes) else str(model)
    # Its own fallback ignores the providers asked for, and prints.
    return ort.InferenceSession(source, options, providers=list(providers), enable_fallback=0)


def _preload_cuda(ort: ModuleType) -> None:
    """Load CUDA and cuDNN from pip's nvidia packages, where the system's loader does not look."""
    if hasattr(ort, "preload_dlls"):  # since 1.21
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find; creation says it again
            ort.preload_dlls()
