"""The averaging tail's kernel through pycuda: loaded once, then launched on the stream that computes its maps."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from iern.cpp_ext import native
from iern.cpp_ext.tail_weights import TailWeights


@dataclass(frozen=True)
class TailSettings:
    """The settings of the tail that are the same in every launch."""

    strata: int
    """N."""
    faces: int
    """The largest number of faces in a launch."""
    half: bool
    """Whether the maps are in half precision. Otherwise they are in single precision."""
    temperature: float = 1.0
    answer: str = "logits"
    """What is averaged over the strata: `logits` or `probabilities`."""


class TailOutputs(NamedTuple):
    """Device addresses of float32 arrays."""

    probabilities: int
    """(B, E)."""
    logits: int
    """(B, E)."""
    stratum_logits: int
    """(B, N, E)."""


def on_device(driver: ModuleType, size: int, resources: ExitStack) -> int:
    """Allocate `size` bytes on the GPU until `resources` close -> their address. `driver` is pycuda.driver."""
    allocation = driver.mem_alloc(max(size, 1))
    resources.callback(allocation.free)
    return int(allocation)


class PycudaTail:
    """The kernel with its weights and workspace on the GPU. Launches must not overlap.

    A context of pycuda must be current during each of its calls and when it is freed.
    """

    def __init__(
        self,
        driver: ModuleType,
        binaries: Iterable[tuple[str, bytes]],
        stream: Any,
        weights: TailWeights,
        settings: TailSettings,
        resources: ExitStack,
    ) -> None:
        """`driver` is pycuda.driver. `binaries` are names and contents of the compiled kernel; the first that the
        driver loads is used.

        The copy of the weights to the GPU is queued on `stream`. They stay there until `resources` close. Raises
        RuntimeError if the driver loads none of the binaries, and pycuda's errors.
        """
        faces, strata = settings.faces, settings.strata
        if max(faces, strata) > native.GRID_LIMIT:
            raise ValueError(f"{faces} faces in {strata} strata exceed the limit of {native.GRID_LIMIT} each")
        weight, bias = weights
        expressions, channels, sums = weight.shape
        self.windowed = sums > 1
        self.half = settings.half
        self._module = _load(driver, binaries)
        self._kernel = self._module.get_function(native.kernel_name(self.windowed, self.half))
        self._kernel.prepare([f"{ctypes.sizeof(native.Tail)}s"])  # one argument, given by its number of bytes
        partials = np.prod(native.partials_shape(faces, strata, channels, expressions), dtype=int)
        self._constants = {
            "weight": on_device(driver, weight.nbytes, resources),
            "bias": on_device(driver, bias.nbytes, resources),
            "partials": on_device(driver, int(partials) * 4, resources),
            "done": on_device(driver, faces * 4, resources),
            "strata": strata,
            "channels": channels,
            "expressions": expressions,
            "temperature": settings.temperature,
            "mean_of_softmax": settings.answer == "probabilities",
        }
        # On the stream itself: a stream that does not wait for the default stream might overtake a plain copy.
        driver.memcpy_htod_async(self._constants["weight"], np.ascontiguousarray(weight, np.float32), stream)
        driver.memcpy_htod_async(self._constants["bias"], np.ascontiguousarray(bias, np.float32), stream)
        driver.memset_d32_async(self._constants["done"], 0, faces, stream)  # every launch leaves it zero

    def enqueue(
        self, stream: Any, u: int, h: int | None, outputs: TailOutputs, faces: int, map_size: tuple[int, int]
    ) -> None:
        """Launch on pycuda's stream for maps u and h (B * N, d, H, W) at these addresses."""
        height, width = map_size
        tail = native.Tail(u=u, h=h, faces=faces, height=height, width=width, **outputs._asdict(), **self._constants)
        grid = native.grid(faces, tail.strata, tail.channels)
        self._kernel.prepared_async_call(grid, (native.THREADS, 1, 1), stream, bytes(tail))


def _load(driver: ModuleType, binaries: Iterable[tuple[str, bytes]]) -> Any:
    """The first binary that the driver loads, as a module."""
    reasons = []
    for name, content in binaries:
        try:
            return driver.module_from_buffer(content)
        except driver.Error as error:
            reasons.append(f"{name}: {error}")
    raise RuntimeError(f"the driver loads no binary of the tail's kernel ({'; '.join(reasons) or 'there is none'})")
