"""TensorRT's side of an engine: its package, what it logs, and a plan made ready to run."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, TextIO

from iern.runtime.backends.trt.engine_file import BACKENDS
from iern.runtime.errors import EngineError, SessionError, one_line

MODULES = {"tensorrt": ("tensorrt", "tensorrt_bindings"), "rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
"""Backend -> the packages that may hold it."""
REMEDIES = {
    "tensorrt": "pip install tensorrt; on a Jetson it comes with JetPack, and a virtual environment sees it when made "
    "with --system-site-packages",
    "rtx": "pip install tensorrt_rtx_cu12_bindings tensorrt_rtx_cu12_libs",
}
ERRORS_KEPT = 20


def find_tensorrt(backend: str) -> tuple[ModuleType | None, list[str]]:
    """The package of a backend; or none, and why each one that is installed cannot be imported."""
    reasons = []
    for module in MODULES[backend]:
        try:
            return importlib.import_module(module), []
        except ModuleNotFoundError as error:
            if error.name != module:
                reasons.append(f"{module}: {one_line(error)}")
        except Exception as error:  # its libraries are missing, or of another version
            reasons.append(f"{module}: {one_line(error)}")
    return None, reasons


def load_tensorrt(backend: str) -> ModuleType:
    """The package of a backend. Raises SessionError with the remedy where it is missing or broken."""
    package, reasons = find_tensorrt(backend)
    if package is not None:
        return package
    title = BACKENDS[backend]
    if reasons:
        raise SessionError(
            f"{title} cannot be imported ({'; '.join(reasons)}); install the one that fits the driver and CUDA again"
        )
    raise SessionError(f"this engine needs {title}, which is not installed; {REMEDIES[backend]}")


def make_logger(trt: ModuleType, file: TextIO | None = None) -> Any:
    """A logger that writes every line to `file`, if any, and nothing to the terminal; `told()` says what TensorRT's
    errors were since it was last asked.

    Its class is made for the package in use. An IErrorRecorder would hear the same, but one written in Python makes
    TensorRT for RTX crash as it lets it go.
    """
    severe = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    class Log(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if file is not None:
                file.write(f"[{severity.name}] {message}\n")
            if severity in severe and len(self.errors) < ERRORS_KEPT:
                self.errors.append(message)

        def told(self, otherwise: str = "it gave no reason") -> str:
            errors, self.errors = self.errors, []
            return one_line(RuntimeError("; ".join(errors) or otherwise), longest=500)

    return Log()


def load_engine(trt: ModuleType, logger: Any, plan: bytes) -> Any:
    """The engine of a plan. Raises EngineError with TensorRT's words where it does not take it."""
    try:
        runtime = trt.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(plan)
    except Exception as error:  # without a GPU it is a TypeError
        raise EngineError(f"TensorRT does not start ({one_line(error)}; {logger.told()})") from error
    if engine is None:
        raise EngineError(f"TensorRT does not take it ({logger.told()})")
    return engine


def make_context(trt: ModuleType, backend: str, engine: Any, scratch: int) -> Any:
    """An execution context that works in `scratch`, the address of `device_memory_size_v2` bytes.

    A CUDA graph holds what its context was when it was recorded, so each graph gets a context of its own; their
    scratch memory can be the same as long as no two run at a time.
    """
    own = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    if backend == "rtx":
        # It compiles kernels for the shapes that it meets, by default beside the first runs, which make do with slower
        # ones: a graph recorded meanwhile would keep those.
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(own)
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        context = engine.create_execution_context(config)
    else:
        context = engine.create_execution_context(own)
    if context is not None:
        context.set_device_memory(scratch, engine.device_memory_size_v2)
    return context
