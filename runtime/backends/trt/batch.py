"""An engine for a fixed number of faces: fixed memory, and the work of a batch recorded as one CUDA graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iern.cpp_ext.pycuda_tail import PycudaTail, TailOutputs, on_device
from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, TAIL_INPUTS, Artifact
from iern.runtime.backends.trt.cuda_graph import CudaGraph
from iern.runtime.errors import EngineError, one_line

ALIGNMENT = 256
"""In bytes. TensorRT requires it of an address."""


def pinned(driver: ModuleType, shape: tuple[int, ...], dtype: type, resources: ExitStack) -> NDArray[Any]:
    """Return zeros in host memory that the GPU can access directly. They are freed when `resources` close."""
    array = driver.pagelocked_zeros(shape, dtype)
    resources.callback(array.base.free)
    return array


@dataclass(frozen=True, eq=False)
class EngineResources:
    """The parts that all batches of one session share."""

    driver: ModuleType
    """The module pycuda.driver."""
    stream: Any
    """The CUDA stream for all work. It is not the default stream."""
    artifact: Artifact
    tail: PycudaTail | None
    """The kernel after an engine that ends at the maps. None if the engine gives the outputs."""
    take_errors: Callable[[], str]
    """Returns TensorRT's errors since the last call."""
    memory: ExitStack
    """Frees the memory and the graphs when it closes."""


class EngineBatch:
    """`batch(faces)` -> the engine's outputs for up to `size` faces, as new arrays.

    The GPU's context must be current in each call. Calls of batches with the same scratch memory or tail must not
    overlap.
    """

    def __init__(self, shared: EngineResources, context: Any, size: int, graph: bool) -> None:
        """`context` is an execution context of this batch alone. `graph` is whether to record a CUDA graph.

        The batch runs once here and is then recorded, so that all memory is allocated now. `note` is the reason if
        nothing was recorded.
        """
        driver, artifact, resources = shared.driver, shared.artifact, shared.memory
        self.size = size
        self._context, self._driver, self._stream, self._tail = context, driver, shared.stream, shared.tail
        self._take_errors = shared.take_errors
        expressions, strata = len(artifact.expressions), len(artifact.strata)
        shapes = ((size, expressions), (size, expressions), (size, strata, expressions))
        offsets, length = _pack(shapes)
        self._faces = pinned(driver, (size, *artifact.input.shape), np.uint8, resources)
        self._image = on_device(driver, self._faces.nbytes, resources)
        self._results = pinned(driver, (length,), np.uint8, resources)
        self._outputs = on_device(driver, length, resources)
        self._views = [
            np.ndarray(shape, np.float32, self._results.data, offset)
            for shape, offset in zip(shapes, offsets, strict=True)
        ]
        self._addresses = TailOutputs(*(self._outputs + offset for offset in offsets))
        self._maps: dict[str, int] = {}
        self._map_size = (0, 0)
        self._bind(size * strata, resources)
        self._graph: CudaGraph | None = None
        self._run()  # TensorRT prepares for new shapes in the first run, and that cannot be recorded
        self.note = self._record(resources) if graph else "without a CUDA graph, as requested"

    def __call__(self, faces: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """(b, S, S, 3) uint8, 1 <= b <= size -> probabilities (b, E), logits (b, E), stratum logits (b, N, E)."""
        self._faces[: len(faces)] = faces  # the other rows keep old faces, and their outputs are dropped
        self._run()
        return [view[: len(faces)].copy() for view in self._views]

    def timed(self, faces: NDArray[np.uint8]) -> tuple[list[NDArray[np.float32]], float]:
        """As a call -> its outputs, and the milliseconds between two events on the stream around all work of the batch.

        That is the GPU's time, copies included, without the host's.
        """
        start, end = self._driver.Event(), self._driver.Event()
        self._faces[: len(faces)] = faces
        start.record(self._stream)
        self._run(end)
        return [view[: len(faces)].copy() for view in self._views], float(start.time_till(end))

    def _run(self, end: Any = None) -> None:
        """Do the work of a batch, wait for it, and let the event `end` mark its end on the stream."""
        try:
            if self._graph is None:
                self._enqueue()
            else:
                self._graph.launch()
            if end is not None:
                end.record(self._stream)
        finally:
            self._stream.synchronize()  # also after a failure: work on the stream still uses this memory

    def _bind(self, maps: int, resources: ExitStack) -> None:
        """Set the shape and all addresses in TensorRT. `maps` is the number of maps per channel, B * N."""
        self._require(self._context.set_input_shape(INPUT_NAME, self._faces.shape))
        addresses = {INPUT_NAME: self._image}
        if self._tail is None:
            addresses.update(zip(OUTPUT_NAMES, self._addresses, strict=True))
        else:
            for name in TAIL_INPUTS[: 2 if self._tail.windowed else 1]:
                rows, channels, height, width = self._context.get_tensor_shape(name)
                self._require(rows == maps)
                self._map_size = (height, width)
                size = maps * channels * height * width * (2 if self._tail.half else 4)
                self._maps[name] = on_device(self._driver, size, resources)
            addresses.update(self._maps)
        for item in addresses.items():
            self._require(self._context.set_tensor_address(*item))

    def _require(self, accepted: bool) -> None:
        if not accepted:
            raise EngineError(f"TensorRT refuses a batch of {self.size} ({self._take_errors()})")

    def _enqueue(self) -> None:
        """Send all work of a batch to the stream, call by call."""
        self._driver.memcpy_htod_async(self._image, self._faces, self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            raise RuntimeError(f"TensorRT does not run ({self._take_errors()})")
        if self._tail is not None:
            u, h = self._maps["u"], self._maps.get("h")
            self._tail.enqueue(self._stream, u, h, self._addresses, self.size, self._map_size)
        self._driver.memcpy_dtoh_async(self._results, self._outputs, self._stream)

    def _record(self, resources: ExitStack) -> str:
        """Record a CUDA graph and replay it from now on. If that fails, return the reason and keep the single calls."""
        try:
            self._graph = CudaGraph(self._stream.handle, self._enqueue)
            resources.callback(self._graph.close)
            self._run()  # the first replay uploads the graph to the GPU
            return ""
        except Exception as error:  # of the driver, pycuda or TensorRT
            reason = one_line(error)
        self._graph = None
        self._run()  # raises if the single calls fail too
        return f"without a CUDA graph, which would be faster ({reason})"


def _pack(shapes: tuple[tuple[int, ...], ...]) -> tuple[list[int], int]:
    """Pack float32 arrays into one block, for one copy -> the offset of each array and the length, in bytes."""
    offsets, end = [], 0
    for shape in shapes:
        offsets.append(end)
        end += -(-4 * math.prod(shape) // ALIGNMENT) * ALIGNMENT
    return offsets, end
