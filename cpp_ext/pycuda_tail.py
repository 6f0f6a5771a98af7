"""The averaging tail's kernel through pycuda: loaded once, launched on a stream behind whatever made its maps."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from contextlib import ExitStack
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iern.cpp_ext import native


class TailOutputs(NamedTuple):
    """Device addresses of float32 arrays."""

    probabilities: int
    """(B, E)."""
    logits: int
    """(B, E)."""
    stratum_logits: int
    """(B, N, E)."""


def on_device(driver: ModuleType, size: int, resources: ExitStack) -> int:
    """Address of so many bytes on the GPU, until `resources` close; `driver` is pycuda.driver."""
    allocation = driver.mem_alloc(max(size, 1))
    resources.callback(allocation.free)
    return int(allocation)


class PycudaTail:
    """Weights and workspace on the GPU for up to so many faces a launch. Launches must not overlap.

    A context of pycuda's must be current in each of its calls, and when it is let go.
    """

    def __init__(
        self,
        driver: ModuleType,
        images: Iterable[tuple[str, bytes]],
        stream: Any,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
        strata: int,
        faces: int,
        half: bool,
        resources: ExitStack,
        temperature: float = 1.0,
        answer: str = "logits",
    ) -> None:
        """`driver` is pycuda.driver; `images` are names and contents of the compiled kernel, in the order of trial.

        `weight` (E, d, 10), or (E, d, 1) for maps without h, and `bias` (E,), see `iern.cpp_ext.tail_weights`. Their
        way to the GPU is queued on `stream`, and they stay there until `resources` close. `half` says the maps'
        precision. Raises RuntimeError where the driver takes none of the images, and pycuda's errors.
        """
        if max(faces, strata) > native.GRID_LIMIT:
            raise ValueError(f"{faces} faces in {strata} strata exceed the limit of {native.GRID_LIMIT} each")
        expressions, channels, sums = weight.shape
        self.windowed = sums > 1
        self.half = half
        self._module = _load(driver, images)
        self._kernel = self._module.get_function(native.kernel_name(self.windowed, half))
        self._kernel.prepare([f"{ctypes.sizeof(native.Tail)}s"])  # one argument: so many bytes
        partials = np.prod(native.partials_shape(faces, strata, channels, expressions), dtype=int)
        self._constants = {
            "weight": on_device(driver, weight.nbytes, resources),
            "bias": on_device(driver, bias.nbytes, resources),
            "partials": on_device(driver, int(partials) * 4, resources),
            "done": on_device(driver, faces * 4, resources),
            "strata": strata,
            "channels": channels,
            "expressions": expressions,
            "temperature": temperature,
            "mean_of_softmax": answer == "probabilities",
        }
        # On the stream itself: one that does not wait for the default stream might overtake a plain copy.
        driver.memcpy_htod_async(self._constants["weight"], np.ascontiguousarray(weight, np.float32), stream)
        driver.memcpy_htod_async(self._constants["bias"], np.ascontiguousarray(bias, np.float32), stream)
        driver.memset_d32_async(self._constants["done"], 0, faces, stream)  # every launch leaves it zero

    def enqueue(
        self, stream: Any, u: int, h: int | None, outputs: TailOutputs, faces: int, map_size: tuple[int, int]
    ) -> None:
        """Launch on pycuda's stream for maps u and h (B * N, d, H, W), given by their addresses."""
        height, width = map_size
        tail = native.Tail(u=u, h=h, faces=faces, height=height, width=width, **outputs._asdict(), **self._constants)
        grid = native.grid(faces, tail.strata, tail.channels)
        self._kernel.prepared_async_call(grid, (native.THREADS, 1, 1), stream, bytes(tail))


def _load(driver: ModuleType, images: Iterable[tuple[str, bytes]]) -> Any:
    """The first image that the driver takes."""
    reasons = []
    for name, image in images:
        try:
            return driver.module_from_buffer(image)
        except driver.Error as error:
            reasons.append(f"{name}: {error}")
    raise RuntimeError(f"the driver takes no image of the tail's kernel ({'; '.join(reasons) or 'there is none'})")
