"""The gate of a half-precision file: the same faces through it and through its twin, the same algebra in float64.

That the algebra is the network's is the business of the other gate, `iern.export.parity.exact`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from iern.export.graph.deconfound import Deconfounded, deconfound
from iern.export.parity.answers import ModelOutputs, answers_of_session
from iern.export.parity.half import HalfParity, compare_half
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.system.cpu_budget import cpu_budget
from iern.train.network.iern import Baseline

Track = Callable[[list[NDArray[np.uint8]]], Iterable[NDArray[np.uint8]]]
"""Batches of faces -> the same batches, each told to a bar as it comes."""

BATCH = 16
TRUNK = ("backbone", "generator", "head")


def check_half_parity(
    model: Baseline,
    onnx_file: bytes,
    faces: NDArray[np.uint8],
    temperature: float = 1.0,
    track: Track = iter,
) -> HalfParity:
    """Compare a file with a half-precision trunk, run by onnxruntime, with the network in float64.

    (n, S, S, 3) uint8 BGR faces; `track` may wrap the batches to show progress. On a CPU onnxruntime rounds what each
    operation reads and writes to float16 and computes between in float32, which is how a GPU's tensor cores accumulate.
    """
    network = deconfound(model, temperature, torch.float64)
    batches = [faces[start : start + BATCH] for start in range(0, len(faces), BATCH)]
    with OnnxSession(onnx_file, provider="cpu", max_batch=BATCH) as session, watched(network) as peaks:

        def ask_both(batch: NDArray[np.uint8]) -> tuple[ModelOutputs, ModelOutputs]:
            return _answers(network, batch), answers_of_session(session, batch)

        with _one_thread_a_batch() as pool:
            found = pool.map(ask_both, batches)
            pairs = [next(found) for _ in track(batches)]
    twin, half = (
        ModelOutputs(*map(np.concatenate, zip(*answers, strict=True))) for answers in zip(*pairs, strict=True)
    )
    return compare_half(twin, half, peaks)


@contextmanager
def watched(network: Deconfounded) -> Iterator[dict[str, float]]:
    """Layer of the trunk -> the largest absolute value that it has written, kept up to date inside the block."""
    peaks: dict[str, float] = {}
    lock = Lock()  # batches may be under way in several threads

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for value in output if isinstance(output, tuple | list) else (output,):
                if isinstance(value, Tensor):
                    largest = float(value.abs().max())
                    with lock:
                        peaks[name] = max(peaks.get(name, 0.0), largest)

        return hook

    hooks = [
        module.register_forward_hook(note(name))
        for name, module in network.named_modules()
        if name.split(".")[0] in TRUNK
    ]
    try:
        yield peaks
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _one_thread_a_batch() -> Iterator[ThreadPoolExecutor]:
    """Threads that each take a batch of their own.

    Shared out inside each operation, as PyTorch does by itself, the work waits for its last thread hundreds of times a
    batch: on a busy machine that takes ten times as long.
    """
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(cpu_budget(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def _answers(network: Deconfounded, faces: NDArray[np.uint8]) -> ModelOutputs:
    return ModelOutputs(*(output.numpy() for output in network(torch.from_numpy(faces))))
