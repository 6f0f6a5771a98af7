"""The calls to TensorRT: import its package, take its errors, load a plan and make it ready to run."""

from __future__ import annotations

import importlib
from collections import deque
from types import ModuleType
from typing import Any, TextIO

from iern.runtime.backends.trt.engine_file import BACKENDS
from iern.runtime.errors import EngineError, SessionError, one_line

MODULES = {"tensorrt": ("tensorrt", "tensorrt_bindings"), "rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
"""Backend -> the packages that may contain it."""
REMEDIES = {
    "tensorrt": "pip install tensorrt; on a Jetson it comes with JetPack, and a virtual environment sees it when made "
    "with --system-site-packages",
    "rtx": "pip install tensorrt_rtx_cu12_bindings tensorrt_rtx_cu12_libs",
}
ERRORS_KEPT = 20
WARNINGS_KEPT = 3
"""The last ones. TensorRT reports as a warning why CUDA does not start."""


def find_tensorrt(backend: str) -> tuple[ModuleType | None, list[str]]:
    """Import the package of a backend. If that fails: None, and why each installed one cannot be imported."""
    reasons = []
    for module in MODULES[backend]:
        try:
            return importlib.import_module(module), []
        except ModuleNotFoundError as error:
            if error.name != module:
                reasons.append(f"{module}: {one_line(error)}")
        except Exception as error:  # its libraries are missing or have another version
            reasons.append(f"{module}: {one_line(error)}")
    return None, reasons


def load_tensorrt(backend: str) -> ModuleType:
    """Import the package of a backend. Raises SessionError with a remedy if it is missing or broken."""
    package, reasons = find_tensorrt(backend)
    if package is not None:
        return package
    title = BACKENDS[backend]
    if reasons:
        raise SessionError(
            f"{title} cannot be imported ({'; '.join(reasons)}); install the version for this driver and CUDA again"
        )
    raise SessionError(f"this engine needs {title}, which is not installed; {REMEDIES[backend]}")


def is_tensorrt_8(trt: ModuleType) -> bool:
    """Whether it is TensorRT 8, as in JetPack 6.0. It lacks a part of what newer ones have."""
    return str(trt.__version__).startswith("8.")


def make_logger(trt: ModuleType, file: TextIO | None = None) -> Any:
    """Make a logger that writes every line to `file`, if any, and nothing to the terminal.

    Its `take_errors()` returns TensorRT's errors since the last call, or its last warnings if there were no errors. The
    class is made for the package in use. An IErrorRecorder would get the same errors, but TensorRT for RTX crashes when
    it frees one that is written in Python.
    """
    severe = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    class Log(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: deque[str] = deque(maxlen=WARNINGS_KEPT)

        def log(self, severity: Any, message: str) -> None:
            if file is not None:
                file.write(f"[{severity.name}] {message}\n")
            if severity in severe and len(self.errors) < ERRORS_KEPT:
                self.errors.append(message)
            elif severity == trt.ILogger.Severity.WARNING and message not in self.warnings:
                self.warnings.append(message)

        def take_errors(self, default: str = "it gave no reason") -> str:
            """Return the errors since the last call on one line, else the last warnings; `default` without either."""
            reasons = self.errors or [f"warning: {message}" for message in self.warnings]
            self.errors = []
            self.warnings.clear()
            return one_line(RuntimeError("; ".join(reasons) or default), longest=500)

    return Log()


def load_engine(trt: ModuleType, logger: Any, plan: bytes) -> Any:
    """Load a plan -> the engine. Raises EngineError with TensorRT's errors if it cannot."""
    try:
        runtime = trt.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(plan)
    except Exception as error:  # without a GPU it is a TypeError
        raise EngineError(f"TensorRT cannot start ({one_line(error)}; {logger.take_errors()})") from error
    if engine is None:
        raise EngineError(f"TensorRT cannot load the plan ({logger.take_errors()})")
    return engine


def scratch_size(trt: ModuleType, engine: Any) -> int:
    """Bytes that an execution context of the engine works in."""
    return int(engine.device_memory_size if is_tensorrt_8(trt) else engine.device_memory_size_v2)


def make_context(trt: ModuleType, backend: str, engine: Any, profile: int, scratch: int, stream: int) -> Any:
    """Make an execution context for an optimization profile, or return None if TensorRT cannot.

    It works in `scratch`, the address of `scratch_size` bytes, and on `stream`, a handle. A CUDA graph holds
    the state of its context at the time of the recording, so each graph gets its own context. The contexts can share
    scratch memory if no two run at the same time.
    """
    if is_tensorrt_8(trt):
        context = engine.create_execution_context_without_device_memory()
        if context is None:
            return None
        context.device_memory = scratch
        return context if context.set_optimization_profile_async(profile, stream) else None
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    if backend == "rtx":
        # It compiles kernels for the shapes of the calls. By default it does so during the first runs, which use
        # slower kernels, and a graph recorded at that time would keep them.
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        context = engine.create_execution_context(config)
    else:
        context = engine.create_execution_context(strategy)
    if context is None:
        return None
    context.set_device_memory(scratch, scratch_size(trt, engine))
    return context if context.set_optimization_profile_async(profile, stream) else None
