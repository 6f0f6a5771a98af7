"""The machine that is measured: GPU, driver, clocks, power mode and versions, and why something is missing."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iern.cpp_ext.compile_native import find_nvcc
from iern.cpp_ext.kernel_binaries import binaries_for
from iern.runtime.doctor.probes import cuda
from iern.runtime.errors import one_line
from iern.runtime.system.machine import jetson, nvcc, output_of

MODULES = (
    *("torch", "numpy", "triton", "timm", "cv2", "onnx", "onnxscript", "onnxruntime"),
    *("tensorrt", "tensorrt_rtx", "pycuda", "pytest", "packaging"),
)
TENSORRTS = ("tensorrt", "tensorrt_bindings", "tensorrt_rtx", "tensorrt_rtx_bindings")
"""Packages; any one of them builds engines."""
SMI = ("driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.limit", "power.draw", "temperature.gpu")
"""The values that are read from nvidia-smi."""
OLDEST_FOR_TRITON = (7, 0)


def missing_reason(need: str) -> str:
    """Why a need is missing, empty if it is there. A need is a key of CHECKS, or a module's name."""
    return CHECKS[need]() if need in CHECKS else _no_module(need)


def environment() -> dict[str, Any]:
    """GPU, driver, power mode, clocks and versions: plain types."""
    import torch

    board, driver, compiler = jetson(), _driver(), nvcc()
    found: dict[str, Any] = {
        "gpu": gpu_name(),
        "driver": driver,
        "power_mode": board.power if board else "",
        "jetson": board.release if board else "",
        "clocks": clocks(),
        "nvcc": compiler[1] if compiler else "",
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **_versions()},
        "cuda_of_torch": torch.version.cuda or "",
        "cudnn": _cudnn(),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["compute_capability"] = capability()
        found["memory_bytes"] = properties.total_memory
        found["multiprocessors"] = properties.multi_processor_count
    return found


def clocks() -> dict[str, str]:
    """Clocks, power and temperature at this moment, from nvidia-smi or a Jetson's kernel."""
    import torch

    # CUDA's first GPU can be another than nvidia-smi's first, so the UUID is passed.
    uuid = getattr(torch.cuda.get_device_properties(0), "uuid", None) if torch.cuda.is_available() else None
    which = "0" if uuid is None else f"GPU-{str(uuid).removeprefix('GPU-')}"
    output = output_of("nvidia-smi", f"--query-gpu={','.join(SMI)}", "--format=csv,noheader", f"--id={which}").strip()
    found = dict(zip(SMI, (value.strip() for value in output.split(",")), strict=False)) if output else {}
    for path in sorted(Path("/sys/class/devfreq").glob("*/cur_freq")):
        try:
            found[f"{path.parent.name} Hz"] = path.read_text(encoding="utf-8").strip()
        except OSError:
            continue
    return found


def gpu_name() -> str:
    """The name that CUDA reports; empty if there is no GPU."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


def capability() -> str:
    """The compute capability of the first GPU, such as sm_87."""
    import torch

    return "sm_{}{}".format(*torch.cuda.get_device_capability(0))


def slug(name: str) -> str:
    """A GPU's name as part of a file's name: `NVIDIA GeForce RTX 4090` -> `nvidia_geforce_rtx_4090`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _no_module(name: str) -> str:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return f"{name} is not installed"
    except Exception as error:  # from another library that is installed but does not load
        return f"{name} cannot be imported ({one_line(error)})"
    return ""


def _no_gpu() -> str:
    if reason := _no_module("torch"):
        return reason
    import torch

    if not torch.version.cuda:
        return "this PyTorch is built without CUDA"
    return "" if torch.cuda.is_available() else "no NVIDIA GPU: PyTorch finds none"


def _no_nvcc() -> str:
    return "" if find_nvcc() else "nvcc is not found (CUDA_HOME, PATH)"


def _no_image() -> str:
    if _no_gpu():
        return ""  # without a GPU it is unknown whether an image fits
    try:
        return "" if next(binaries_for(capability()), None) else f"this checkout ships no kernel for {capability()}"
    except (OSError, ValueError) as error:
        return one_line(error)


def _no_kernel() -> str:
    return " and ".join((_no_nvcc(), _no_image())) if _no_nvcc() and _no_image() else ""


def _no_compile() -> str:
    if reason := _no_module("triton"):
        return f"torch.compile: {reason}"
    import torch

    if torch.cuda.is_available() and torch.cuda.get_device_capability(0) < OLDEST_FOR_TRITON:
        return f"torch.compile: Triton does not support {capability()}"
    compilers = os.environ.get("CC"), "cc", "gcc", "clang"
    if not any(name and shutil.which(name) for name in compilers):
        return "torch.compile: Triton needs a C compiler, and there is none"
    return ""


def _no_onnxruntime_cuda() -> str:
    if reason := _no_module("onnxruntime"):
        return reason
    available = importlib.import_module("onnxruntime").get_available_providers()
    return "" if "CUDAExecutionProvider" in available else "this onnxruntime is built without CUDA"


def _no_tensorrt() -> str:
    reasons = [_no_module(name) for name in TENSORRTS]
    if "" in reasons:
        return ""
    broken = [reason for reason in reasons if "is not installed" not in reason]
    return "; ".join(broken) or "neither TensorRT nor TensorRT for RTX is installed"


CHECKS: dict[str, Callable[[], str]] = {
    "gpu": _no_gpu,
    "nvcc": _no_nvcc,
    "image": _no_image,
    "kernel": _no_kernel,
    "torch.compile": _no_compile,
    "onnxruntime with CUDA": _no_onnxruntime_cuda,
    "tensorrt": _no_tensorrt,
}
"""The needs of parts besides modules, and a function for each that returns why it is missing, empty if it is there."""


def _driver() -> dict[str, Any]:
    try:
        return cuda()
    except Exception as error:  # from another library
        return {"error": one_line(error)}


def _cudnn() -> str:
    import torch

    try:
        return str(torch.backends.cudnn.version() or "")
    except Exception as error:  # such as a version that PyTorch was not built with
        return one_line(error)


def _versions() -> dict[str, str]:
    found = {}
    for name in MODULES:
        if not _no_module(name):
            module = importlib.import_module(name)
            found[name] = str(getattr(module, "__version__", getattr(module, "VERSION_TEXT", "")))
    return found
