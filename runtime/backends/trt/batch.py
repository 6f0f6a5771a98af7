"""An engine for a fixed number of faces: memory that never moves, and the way of a batch recorded as one CUDA graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iern.cpp_ext.pycuda_tail import PycudaTail, TailOutputs, on_device
from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, TAIL_INPUTS, Artifact
from iern.runtime.backends.trt.cuda_graph import CudaGraph
from iern.runtime.errors import EngineError, one_line

ALIGNMENT = 256
"""Bytes; what TensorRT asks of an address."""


def pinned(driver: ModuleType, shape: tuple[int, ...], dtype: type, resources: ExitStack) -> NDArray[Any]:
    """Zeros in host memory that the GPU reads by itself, until `resources` close."""
    array = driver.pagelocked_zeros(shape, dtype)
    resources.callback(array.base.free)
    return array


class EngineBatch:
    """`batch(faces)` -> the engine's outputs for up to `size` of them, as arrays of the caller's own.

    The GPU's context must be current in each call. Calls must not overlap, nor those of batches with the same scratch
    memory or tail.
    """

    def __init__(
        self,
        driver: ModuleType,
        context: Any,
        stream: Any,
        artifact: Artifact,
        size: int,
        tail: PycudaTail | None,
        graph: bool,
        told: Callable[[], str],
        resources: ExitStack,
    ) -> None:
        """`driver` is pycuda.driver, `context` an execution context of the batch's own, `stream` none of the default.

        `tail` is the kernel behind an engine that ends at the maps, `graph` whether to record. `told` gives TensorRT's
        words for a failure. It runs once here, and is recorded: what allocates, does it now. `note` says why nothing
        was recorded.
        """
        self.size = size
        self._driver, self._context, self._stream, self._tail, self._told = driver, context, stream, tail, told
        expressions, strata = len(artifact.expressions), len(artifact.strata)
        shapes = ((size, expressions), (size, expressions), (size, strata, expressions))
        offsets, length = _packed(shapes)
        self._faces = pinned(driver, (size, *artifact.input.shape), np.uint8, resources)
        self._image = on_device(driver, self._faces.nbytes, resources)
        self._answer = pinned(driver, (length,), np.uint8, resources)
        self._outputs = on_device(driver, length, resources)
        self._views = [
            np.ndarray(shape, np.float32, self._answer.data, offset)
            for shape, offset in zip(shapes, offsets, strict=True)
        ]
        self._addresses = TailOutputs(*(self._outputs + offset for offset in offsets))
        self._maps: dict[str, int] = {}
        self._map_size = (0, 0)
        self._bind(size * strata, resources)
        self._graph: CudaGraph | None = None
        self._run()  # TensorRT puts off to the first run what new shapes ask for, and that may not be recorded
        self.note = self._record(resources) if graph else "without a CUDA graph, as asked"

    def __call__(self, faces: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """(b, S, S, 3) uint8, 1 <= b <= size -> probabilities (b, E), logits (b, E), stratum logits (b, N, E)."""
        self._faces[: len(faces)] = faces  # the rows behind keep old faces, whose answers nobody sees
        self._run()
        return [view[: len(faces)].copy() for view in self._views]

    def _run(self) -> None:
        try:
            if self._graph is None:
                self._enqueue()
            else:
                self._graph.launch()
        finally:
            self._stream.synchronize()  # after a failure too: what was sent still reads and writes this memory

    def _bind(self, maps: int, resources: ExitStack) -> None:
        """Tell TensorRT the shape and all addresses; `maps` is the number of maps of a channel, B * N."""
        self._insist(self._context.set_input_shape(INPUT_NAME, self._faces.shape))
        addresses = {INPUT_NAME: self._image}
        if self._tail is None:
            addresses.update(zip(OUTPUT_NAMES, self._addresses, strict=True))
        else:
            for name in TAIL_INPUTS[: 2 if self._tail.windowed else 1]:
                rows, channels, height, width = self._context.get_tensor_shape(name)
                self._insist(rows == maps)
                self._map_size = (height, width)
                size = maps * channels * height * width * (2 if self._tail.half else 4)
                self._maps[name] = on_device(self._driver, size, resources)
            addresses.update(self._maps)
        for item in addresses.items():
            self._insist(self._context.set_tensor_address(*item))

    def _insist(self, done: bool) -> None:
        if not done:
            raise EngineError(f"TensorRT does not take a batch of {self.size} ({self._told()})")

    def _enqueue(self) -> None:
        """Send a batch's whole way to the stream, piece by piece."""
        self._driver.memcpy_htod_async(self._image, self._faces, self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            raise RuntimeError(f"TensorRT does not run ({self._told()})")
        if self._tail is not None:
            u, h = self._maps["u"], self._maps.get("h")
            self._tail.enqueue(self._stream, u, h, self._addresses, self.size, self._map_size)
        self._driver.memcpy_dtoh_async(self._answer, self._outputs, self._stream)

    def _record(self, resources: ExitStack) -> str:
        """From here on replay one CUDA graph; or say why not, and stay with the pieces."""
        try:
            self._graph = CudaGraph(self._stream.handle, self._enqueue)
            resources.callback(self._graph.close)
            self._run()  # the first replay takes the graph to the GPU
            return ""
        except Exception as error:  # of the driver's, pycuda's or TensorRT's
            reason = one_line(error)
        self._graph = None
        self._run()  # shows whether the pieces still do
        return f"without a CUDA graph, which would be faster ({reason})"


def _packed(shapes: tuple[tuple[int, ...], ...]) -> tuple[list[int], int]:
    """Where float32 arrays lie in one block that crosses in one copy, in bytes, and how long it is."""
    offsets, end = [], 0
    for shape in shapes:
        offsets.append(end)
        end += -(-4 * math.prod(shape) // ALIGNMENT) * ALIGNMENT
    return offsets, end
