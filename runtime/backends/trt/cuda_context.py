"""The GPU through pycuda: its primary context, which all CUDA code of the process shares."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from iern.runtime.backends.trt.engine_file import Gpu
from iern.runtime.errors import SessionError, one_line

PYCUDA_REMEDY = "pip install pycuda (pip compiles it: this needs CUDA's headers and a C++ compiler, which JetPack has)"
PYCUDA_REINSTALL = (
    "install the NVIDIA driver; after a change of CUDA: pip install --force-reinstall --no-cache-dir pycuda"
)


@dataclass(frozen=True, eq=False)
class CudaDevice:
    """The first GPU that CUDA shows this process."""

    driver: ModuleType
    """pycuda.driver."""
    gpu: Gpu
    _context: Any

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make the GPU's context current in this thread while the block runs.

        CUDA aborts a thread or process that ends with a pushed context of pycuda. Hence the `finally`.
        """
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def is_lost(self) -> bool:
        """Whether every further call fails, as after a crash of a kernel. The context must be current."""
        try:
            self.driver.Context.synchronize()
        except self.driver.Error:
            return True
        return False


@functools.cache
def cuda_device() -> CudaDevice:
    """Return the GPU, the same for all sessions. Raises SessionError with a remedy without a GPU or without pycuda.

    The context is kept until the process ends, because pycuda would leave it pushed when it releases it.
    """
    driver = _import_pycuda()
    try:
        driver.init()
        device = driver.Device(0)
        major, minor = device.compute_capability()
        version = driver.get_driver_version()
        gpu = Gpu(device.name(), f"sm_{major}{minor}", f"{version // 1000}.{version % 1000 // 10}")
        context = device.retain_primary_context()
    except driver.Error as error:
        raise SessionError(
            f"no usable GPU ({one_line(error)}); check nvidia-smi, or use the .onnx file, which runs on the CPU"
        ) from error
    # The destructor of pycuda would release a primary context with a call that CUDA allows for other contexts only.
    atexit.register(context.detach)
    return CudaDevice(driver, gpu, context)


def _import_pycuda() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a wrong libcuda, which the error below reports again
            return importlib.import_module("pycuda.driver")
    except ModuleNotFoundError as error:
        if error.name == "pycuda":
            raise SessionError(f"an engine needs pycuda, which is not installed; {PYCUDA_REMEDY}") from error
        raise SessionError(f"pycuda cannot be imported ({one_line(error)}); {PYCUDA_REINSTALL}") from error
    except Exception as error:  # no libcuda, or not the one that it was compiled for
        raise SessionError(f"pycuda cannot be imported ({one_line(error)}); {PYCUDA_REINSTALL}") from error
