"""Loads the averaging kernel with PyTorch and CUDA alone, and checks it against float64.

Either nvcc builds the library of `iern.cpp_ext.native` for this GPU, or the driver loads a compiled image that the
package ships. Both launch on PyTorch's stream and serve the operator `iern::strata_tail`.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.tail_cases import CASES, TailCase, tail_case
from iern.cpp_ext import native
from iern.cpp_ext.compile_native import cuda_command
from iern.cpp_ext.kernel_binaries import binaries_for
from iern.cpp_ext.torch_operator import Launch, launch_from, strata_tail
from iern.runtime.errors import EngineError, IernError, one_line

TOLERANCE = 2e-6
"""The largest error of logits relative to the largest one, and of probabilities: a few roundings of float32."""
REPEATS = 20
"""Calls that must give the same bits."""
SHAPES = {"strata": 10, "channels": 512}
"""The paper's network: for every case that does not change them."""


def from_nvcc(folder: Path, capability: str) -> Launch:
    """Build the library into `folder` for one GPU, such as sm_87. Raises EngineError if nvcc is missing or fails."""
    command = cuda_command(folder / f"{native.CUDA}.so")
    if command is None:
        raise EngineError("nvcc is not found; put it on the PATH, or set CUDA_HOME")
    build = [f"-arch={capability}" if word.startswith("-arch=") else word for word in command]
    done = subprocess.run(build, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise EngineError(f"{command[0]} failed with status {done.returncode}: {lines[0]}")
    loaded = native.library(native.CUDA, folder)
    assert loaded is not None, "nvcc has just written it"
    return launch_from(native.CUDA, loaded)


def from_images(capability: str) -> Launch:
    """Load the kernel from the images that the package ships. Raises EngineError if the driver loads none."""
    torch.zeros(1, device="cuda")  # makes the primary context current; the driver's calls below use it
    functions = DriverKernels(ctypes.CDLL("libcuda.so.1"), binaries_for(capability))
    return lambda tail, half: functions(tail, half, torch.cuda.current_stream().cuda_stream)


class DriverModule:
    """The kernels of a compiled image, loaded and launched by the CUDA driver alone."""

    def __init__(self, driver: ctypes.CDLL, images: Iterable[tuple[str, bytes]], kernels: Iterable[str]) -> None:
        """Take the first of the named images that the driver loads into the current context. It has these kernels.

        If it loads none, raises EngineError with its error for each.
        """
        self._driver = driver
        driver.cuLaunchKernel.argtypes = [
            *(ctypes.c_void_p, *[ctypes.c_uint] * 7),
            *(ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p),
        ]
        self._module = ctypes.c_void_p()
        refused = []
        for self.name, image in images:
            # PTX is text that ends with a zero, which the buffer appends.
            code = driver.cuModuleLoadData(ctypes.byref(self._module), ctypes.create_string_buffer(image))
            if not code:
                break
            refused.append(f"{self.name}: {self._error(code)}")
        else:
            raise EngineError(
                f"the driver loads none of the kernel's images ({'; '.join(refused) or 'there are none'})"
            )
        self._functions = {name: self._function(name) for name in kernels}

    def launch(
        self, kernel: str, grid: tuple[int, int, int], threads: int, argument: ctypes.Structure, stream: int
    ) -> None:
        """Enqueue a kernel with its one argument, whose addresses are in the current device's memory.

        Raises EngineError if it does not start.
        """
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(argument))
        function = self._functions[kernel]
        self._check(self._driver.cuLaunchKernel(function, *grid, threads, 1, 1, 0, stream or None, arguments, None))

    def _function(self, name: str) -> ctypes.c_void_p:
        function = ctypes.c_void_p()
        self._check(self._driver.cuModuleGetFunction(ctypes.byref(function), self._module, name.encode()))
        return function

    def _check(self, code: int) -> None:
        if code:
            raise EngineError(f"the CUDA driver refuses the kernel of {self.name} ({self._error(code)})")

    def _error(self, code: int) -> str:
        text = ctypes.c_char_p()
        self._driver.cuGetErrorString(code, ctypes.byref(text))
        return f"error {code}, {(text.value or b'unknown').decode('utf-8', 'replace')}"


class DriverKernels(DriverModule):
    """The four kernels of the averaging tail."""

    def __init__(self, driver: ctypes.CDLL, images: Iterable[tuple[str, bytes]]) -> None:
        """See `DriverModule`."""
        names = (native.kernel_name(windowed, half) for windowed in (False, True) for half in (False, True))
        super().__init__(driver, images, names)

    def __call__(self, tail: native.Tail, half: bool, stream: int) -> None:
        """Enqueue the kernel; addresses are in the current device's memory. Raises EngineError if it does not start."""
        grid = native.grid(tail.faces, tail.strata, tail.channels)
        self.launch(native.kernel_name(bool(tail.h), half), grid, native.THREADS, tail, stream)


def check_tail(device: str) -> dict[str, Any]:
    """Check the operator registered for a device on the tests' cases and more. Returns the largest errors.

    Raises EngineError if an output differs from float64, or from call to call.
    """
    edge = {"channels": 128}
    cases = {**CASES, "16 faces": {"faces": 16, **edge}, "one face in one stratum": {"faces": 1, "strata": 1, **edge}}
    found: dict[str, Any] = {}
    for name, changes in cases.items():
        case = tail_case(**{**SHAPES, **changes})
        arguments = tail_arguments(case, device)
        calls = [strata_tail(*arguments) for _ in range(REPEATS)]
        differences = case.differences(*(tensor.cpu().numpy() for tensor in calls[0]))
        found[name] = differences
        if not max(differences.values()) < TOLERANCE:
            raise EngineError(f"{name}: differs from float64 by {max(differences.values()):.1e}, more than {TOLERANCE}")
        if not all(torch.equal(one, first) for outputs in calls for one, first in zip(outputs, calls[0], strict=True)):
            raise EngineError(f"{name}: {REPEATS} calls with the same maps do not give the same bits")
    return found


def tail_arguments(case: TailCase, device: str) -> tuple[Any, ...]:
    """The positional arguments of the operator for a case."""
    tensors = [
        None if array is None else torch.from_numpy(array).to(device)
        for array in (case.u, case.h, case.weight, case.bias)
    ]
    return *tensors, case.strata, case.temperature, case.answer


def reason_of(error: BaseException) -> str:
    """An error on one line, with the name of its type if it is not from this package."""
    text = one_line(error) or "no message"
    return text if isinstance(error, IernError) else f"{type(error).__name__}: {text}"
