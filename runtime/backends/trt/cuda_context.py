"""The GPU through pycuda: its primary context, which everything in the process that uses CUDA shares."""

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

PYCUDA = (
    "pip install pycuda (it is compiled here: CUDA's headers and a C++ compiler must be there, as JetPack has them)"
)
PYCUDA_AGAIN = "install the NVIDIA driver; after a change of CUDA: pip install --force-reinstall --no-cache-dir pycuda"


@dataclass(frozen=True, eq=False)
class CudaDevice:
    """The first GPU that CUDA shows this process."""

    driver: ModuleType
    """pycuda.driver."""
    gpu: Gpu
    _context: Any

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """In the block, in whichever thread, calls go to this GPU.

        A thread that ends, or a process, with a context of pycuda's still pushed is aborted: hence the `finally`.
        """
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def is_lost(self) -> bool:
        """Whether every call fails from here on, as it does once a kernel has crashed; the context must be current."""
        try:
            self.driver.Context.synchronize()
        except self.driver.Error:
            return True
        return False


@functools.cache
def cuda_device() -> CudaDevice:
    """The GPU, the same for all sessions. Raises SessionError with the remedy where there is none, or no pycuda.

    The context is kept until the process ends: pycuda's way to release it would leave it pushed.
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
            f"no GPU answers ({one_line(error)}); see what nvidia-smi says, or take the .onnx, which runs on the CPU"
        ) from error
    # Left to its destructor, pycuda would end a primary context in a way that CUDA has only for others.
    atexit.register(context.detach)
    return CudaDevice(driver, gpu, context)


def _import_pycuda() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a libcuda that does not fit, which its error says again
            return importlib.import_module("pycuda.driver")
    except ModuleNotFoundError as error:
        if error.name == "pycuda":
            raise SessionError(f"an engine needs pycuda, which is not installed; {PYCUDA}") from error
        raise SessionError(f"pycuda cannot be imported ({one_line(error)}); {PYCUDA_AGAIN}") from error
    except Exception as error:  # no libcuda, or another than it was compiled for
        raise SessionError(f"pycuda cannot be imported ({one_line(error)}); {PYCUDA_AGAIN}") from error
