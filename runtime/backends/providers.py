"""onnxruntime's execution providers: their settings, and the order in which they are tried.

A provider must run the whole graph. onnxruntime by itself falls back in two ways, without an error: it runs single
operations on the CPU, and it runs everything there if a GPU's library cannot be loaded.
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
from iern.runtime.system.files import cache_folder, is_text
from iern.runtime.system.remedies import install

if TYPE_CHECKING:
    import onnxruntime

Model = Path | str | bytes
"""An exported file, its content, or the address of a served model: see `iern.runtime.backends.server_address`."""

GPU_BUILD_REMEDY = "pip uninstall onnxruntime, then pip install 'iern[gpu]'"
BATCH_AXIS = "batch"
"""The exporter's name for the only axis without a fixed size."""


@dataclass(frozen=True)
class Provider:
    """One of onnxruntime's execution providers."""

    title: str
    """Its name in messages."""
    name: str
    """Its name in onnxruntime."""
    device: str
    """onnxruntime's name of the device that holds its tensors."""
    check: str = ""
    """What to check if it fails."""


PROVIDERS = {
    "cpu": Provider("the CPU", "CPUExecutionProvider", "cpu"),
    "cuda": Provider("CUDA", "CUDAExecutionProvider", "cuda", "nvidia-smi, CUDA and cuDNN"),
    "tensorrt": Provider("TensorRT", "TensorrtExecutionProvider", "cuda", "nvidia-smi and TensorRT's libnvinfer"),
}

CUDA_OPTIONS = {
    "prefer_nhwc": "1",  # tensor cores need this order, and the input has it; in the wheels since 1.21
    # `EXHAUSTIVE` times every algorithm at each start. The fastest one, and so the rounding, changes between starts.
    "cudnn_conv_algo_search": "HEURISTIC",
}
"""Options of the CUDA provider."""


def provider_order(provider: str, available: Collection[str]) -> list[str]:
    """Return the providers to try for `auto` or a key of PROVIDERS, best first.

    `available` are the names of onnxruntime's own providers. The CPU always works and comes last. `auto` leaves out
    TensorRT, which first builds engines for minutes.
    """
    if provider not in ("auto", *PROVIDERS):
        raise SessionError(f"unknown provider {provider!r}; expected auto, {', '.join(PROVIDERS)}")
    if provider == "auto":
        return ["cuda", "cpu"] if PROVIDERS["cuda"].name in available else ["cpu"]
    return {"cpu": ["cpu"], "cuda": ["cuda", "cpu"], "tensorrt": ["tensorrt", "cuda", "cpu"]}[provider]


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime, and let it log errors only. Raises SessionError with a remedy if it is missing or broken."""
    try:
        import onnxruntime
    except ImportError as error:
        raise SessionError(
            f"onnxruntime cannot be imported ({ort_message(error)}); {install('cpu')}, or 'iern[gpu]' for NVIDIA"
        ) from error
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def load_on_cpu(ort: ModuleType, model: Model, threads: int) -> onnxruntime.InferenceSession:
    """Load the graph on the CPU, for any batch size. Raises whatever onnxruntime raises."""
    return _create(ort, model, _options(ort, threads), PROVIDERS["cpu"].name)


def load_on_gpu(ort: ModuleType, model: Model, key: str, threads: int, batch: int) -> onnxruntime.InferenceSession:
    """Load the whole graph on the provider of that key, for exactly `batch` faces.

    With fixed shapes, CUDA can replay the run as one CUDA graph, and TensorRT needs no profile of sizes.
    Raises SessionError if any operation would run on the CPU, or the provider cannot be loaded.
    """
    provider = PROVIDERS[key]
    if provider.name not in ort.get_available_providers():
        raise SessionError(f"this onnxruntime was built without {provider.title}; {GPU_BUILD_REMEDY}")
    _preload_cuda(ort)
    options = _options(ort, threads)
    options.log_severity_level = 4  # an error is raised here, and another provider may follow
    options.add_free_dimension_override_by_name(BATCH_AXIS, batch)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if provider.device != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        graph = _create(ort, model, options, *provider_settings(key, model, batch))
    except Exception as error:  # onnxruntime's own exceptions share no other base
        raise SessionError(failure_message(provider, ort_message(error))) from error
    if graph.get_providers()[0] != provider.name:
        raise SessionError(failure_message(provider, "onnxruntime cannot load the provider"))
    if not runs_operations(graph, provider.name):
        raise SessionError(failure_message(provider, "it supports none of the operations"))
    return graph


def provider_settings(key: str, model: Model, batch: int) -> list[tuple[str, dict[str, str]]]:
    """Return the providers that run a model together, best first: onnxruntime's name of each, and its options."""
    provider = PROVIDERS[key]
    if key == "tensorrt":
        # CUDA runs the operations that TensorRT does not support. A CUDA graph needs a single provider.
        folder = engine_cache_folder(model)
        batch_folder = folder / f"batch{batch}"  # onnxruntime names an engine by its operations, not by their shapes
        batch_folder.mkdir(parents=True, exist_ok=True)
        engines = {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(batch_folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }
        return [(provider.name, engines), (PROVIDERS["cuda"].name, CUDA_OPTIONS)]
    # For one face, it takes longer to launch the kernels one by one than to run them.
    return [(provider.name, {**CUDA_OPTIONS, "enable_cuda_graph": "1"})]


def engine_cache_folder(model: Model) -> Path:
    """Return the folder where onnxruntime keeps TensorRT's engines of this model: one folder per file content.

    onnxruntime does not compare weights. With a shared folder, a retrained model would run with the old ones.
    """
    content = model if isinstance(model, bytes) else Path(model).read_bytes()
    return cache_folder() / "tensorrt" / hashlib.sha256(content).hexdigest()[:16]


def runs_operations(graph: onnxruntime.InferenceSession, name: str) -> bool:
    """Whether a provider runs any operation. True if onnxruntime does not report it (before 1.24)."""
    if not hasattr(graph, "get_provider_graph_assignment_info"):
        return True
    return any(part.ep_name == name for part in graph.get_provider_graph_assignment_info())


def failure_message(provider: Provider, reason: str) -> str:
    """Return the message for a provider that failed, with a remedy."""
    return f"{provider.title} cannot run the whole model ({reason}); check {provider.check}"


def ort_message(error: Exception) -> str:
    """Return onnxruntime's message on one line, without its prefix and the full stop."""
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", one_line(error, longest=1000)).rstrip(".")


def _options(ort: ModuleType, threads: int) -> onnxruntime.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # By default onnxruntime pins a thread to each core of the machine, and logs every core that it may not use.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while the detector works cost it 40 % of its speed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _create(
    ort: ModuleType, model: Model, options: onnxruntime.SessionOptions, *providers: str | tuple[str, dict[str, str]]
) -> onnxruntime.InferenceSession:
    source = model if isinstance(model, bytes) else _readable(Path(model))
    # The fallback of onnxruntime ignores the requested providers, and prints.
    return ort.InferenceSession(source, options, providers=list(providers), enable_fallback=0)


def _readable(path: Path) -> str | bytes:
    """Return a path that onnxruntime can open, or the file's content if the path is not valid text.

    From a path, onnxruntime also reads weights that lie beside the file.
    """
    return str(path) if is_text(str(path)) else path.read_bytes()


def _preload_cuda(ort: ModuleType) -> None:
    """Load CUDA and cuDNN from pip's nvidia packages, which the system's loader does not search."""
    if hasattr(ort, "preload_dlls"):  # since 1.21
        # It prints which libraries are missing; the error of the session names them again.
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
