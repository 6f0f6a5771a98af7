"""Times a call on a device by three clocks: the host with copies, the device's events, and the host's enqueueing.

On the CPU the same code runs with the host's clock instead of events, so that tests cover it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.common.turns import in_turns

WARM_UP = 0.2
"""Seconds for which each call is repeated before it is timed."""

Tensors = tuple[Tensor, ...]
Computation = Callable[..., Tensors]
"""Tensors on a device -> tensors on that device."""


class CallTimes(NamedTuple):
    """Milliseconds of one call."""

    wall: float
    """By the host: inputs are copied in, outputs are computed and copied out, and the host waits for all of it."""
    gpu: float | None
    """Between events before and after the computation, including gaps in which the device waits for the host."""
    enqueue: float | None
    """By the host, until the computation is enqueued."""


class PreparedCall:
    """A computation that can be called repeatedly with the same inputs, whose tensors never move."""

    def __init__(self, computation: Computation, inputs: Tensors, device: str, captured: bool = False) -> None:
        """`inputs` are on the host. Calls at least once; with `captured`, into a CUDA graph that the calls replay."""
        on_gpu = device == "cuda"
        if on_gpu:
            torch.cuda.empty_cache()  # or memory that another computation left would be used, and not counted
        start, before = time.perf_counter(), _memory(device)
        self._device = device
        self._host_inputs = tuple(tensor.pin_memory() if on_gpu else tensor for tensor in inputs)
        # Strides are kept, so channels-last maps stay channels-last.
        self._inputs = on_device = tuple(tensor.to(device, copy=True) for tensor in inputs)
        # Without a reference to `self`, so that the memory is freed with this object.
        self._run = _captured(computation, on_device) if captured else lambda: computation(*on_device)
        self._events = [torch.cuda.Event(enable_timing=True) if on_gpu else HostEvent() for _ in range(2)]
        with torch.inference_mode():
            self._outputs = self._run()
            self._host_outputs = tuple(
                torch.empty_like(tensor, device="cpu", pin_memory=on_gpu) for tensor in self._outputs
            )
        _wait(device)
        self.build_seconds = time.perf_counter() - start
        self.memory_bytes = _memory(device) - before
        """Memory reserved for inputs, outputs and intermediate values, without weights."""

    @torch.inference_mode()
    def __call__(self) -> CallTimes:
        """Make and time one call."""
        first, second = self._events
        start = time.perf_counter()
        for tensor, host in zip(self._inputs, self._host_inputs, strict=True):
            tensor.copy_(host, non_blocking=True)
        first.record()
        begun = time.perf_counter()
        outputs = self._run()
        enqueued = time.perf_counter()
        second.record()
        for host, tensor in zip(self._host_outputs, outputs, strict=True):
            host.copy_(tensor, non_blocking=True)
        _wait(self._device)
        end = time.perf_counter()
        return CallTimes(1000 * (end - start), first.elapsed_time(second), 1000 * (enqueued - begun))

    @torch.inference_mode()
    def outputs(self) -> list[np.ndarray]:
        """Call once and return the outputs, on the host. Outputs of an earlier call would be NaN."""
        for tensor in self._inputs:
            tensor.zero_()
        for tensor in self._outputs:  # so that a graph that writes nothing does not pass
            tensor.fill_(float("nan"))
        self()
        return [tensor.numpy().copy() for tensor in self._host_outputs]


class HostEvent:
    """A torch.cuda.Event for the CPU, whose work is done when a call returns."""

    def __init__(self) -> None:
        self._at = 0.0

    def record(self) -> None:
        """Take the time."""
        self._at = time.perf_counter()

    def elapsed_time(self, end: HostEvent) -> float:
        """Milliseconds from this event to another."""
        return 1000 * (end._at - self._at)


def measure(
    calls: Mapping[str, Callable[[], CallTimes]], most: int, least: int, seconds: float
) -> dict[str, dict[str, list[float]]]:
    """Time every call in turns, after a warm-up. Returns a list of milliseconds by name and clock.

    Each call is timed as often as fits into `seconds` for all together, but from `least` to `most` times.
    """
    round_seconds = sum(_warm_up(call) for call in calls.values())
    repeats = int(min(most, max(least, seconds / max(round_seconds, 1e-9))))
    gc.collect()
    gc.disable()  # as timeit does: a collection would slow one variant or another
    try:
        samples = in_turns(calls, repeats)
    finally:
        gc.enable()
    return {name: by_clock(of_one) for name, of_one in samples.items()}


def by_clock(samples: Sequence[CallTimes]) -> dict[str, list[float]]:
    """The samples as one list for each clock that was read, rounded to 0.1 microseconds."""
    columns = dict(zip(CallTimes._fields, zip(*samples, strict=True), strict=True))
    return {clock: [round(value, 4) for value in values] for clock, values in columns.items() if values[0] is not None}


def statistics(values: Sequence[float]) -> dict[str, float]:
    """Count, range, mean, percentiles and coefficient of variation of a list of milliseconds."""
    p50, p90, p95, p99 = np.percentile(values, (50, 90, 95, 99))
    mean = float(np.mean(values))
    figures: dict[str, Any] = {
        "min": np.min(values),
        "mean": mean,
        "median": p50,
        "p90": p90,
        "p95": p95,
        "p99": p99,
        "max": np.max(values),
        "cv": np.std(values) / mean if mean else 0.0,
    }
    return {"n": len(values), **{name: round(float(value), 4) for name, value in figures.items()}}


@torch.inference_mode()
def _captured(computation: Computation, inputs: Tensors) -> Callable[[], Tensors]:
    """The computation in a CUDA graph that reads and writes the same tensors in every call."""
    # A capture must not be the first call, which chooses algorithms, compiles and makes workspaces.
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            computation(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = computation(*inputs)

    def replay() -> Tensors:
        graph.replay()
        return outputs

    return replay


def _warm_up(call: Callable[[], CallTimes]) -> float:
    """Call for WARM_UP seconds and return the seconds of the fastest call."""
    end, fastest = time.perf_counter() + WARM_UP, float("inf")
    while time.perf_counter() < end:
        fastest = min(fastest, call().wall / 1000)
    return fastest


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _memory(device: str) -> int:
    """Bytes that PyTorch holds on the GPU; 0 on the CPU."""
    if device != "cuda":
        return 0
    torch.cuda.synchronize()
    return torch.cuda.memory_reserved()
