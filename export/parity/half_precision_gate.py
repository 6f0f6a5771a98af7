"""The gate of a half-precision file: the same faces through it and through the deconfounded network in float64.

The other gate, `iern.export.parity.exact`, shows that the deconfounded network equals the network as trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from iern.export.graph.deconfound import Deconfounded, deconfound
from iern.export.parity.batches import FACES_PER_BATCH, Track, in_batches
from iern.export.parity.half_precision import HalfParity, compare_half
from iern.export.parity.model_outputs import ModelOutputs, joined, outputs_of_session
from iern.runtime.backends.onnx import OnnxSession
from iern.train.network.iern import Baseline

TRUNK = ("backbone", "generator", "head")


def check_half_parity(
    model: Baseline,
    onnx_file: bytes,
    faces: NDArray[np.uint8],
    temperature: float = 1.0,
    track: Track = iter,
) -> HalfParity:
    """Compare a file with a half-precision trunk, run by onnxruntime, with the network in float64.

    `faces` are (n, S, S, 3) uint8 BGR. `track` may wrap the batches to show progress. On a CPU, onnxruntime rounds the
    inputs and outputs of each operation to float16 and computes in float32, as a GPU's tensor cores accumulate.
    """
    network = deconfound(model, temperature, torch.float64)
    with (
        OnnxSession(onnx_file, provider="cpu", max_batch=FACES_PER_BATCH) as session,
        largest_outputs(network) as peaks,
    ):

        def outputs_of_both(batch: NDArray[np.uint8]) -> tuple[ModelOutputs, ModelOutputs]:
            return _outputs(network, batch), outputs_of_session(session, batch)

        pairs = in_batches(outputs_of_both, faces, track)
    reference, half = map(joined, zip(*pairs, strict=True))
    return compare_half(reference, half, peaks)


@contextmanager
def largest_outputs(network: Deconfounded) -> Iterator[dict[str, float]]:
    """Layer of the trunk -> the largest absolute value of its outputs so far. Recorded until the block ends."""
    peaks: dict[str, float] = {}
    lock = Lock()  # several threads may run the network

    def record(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for value in output if isinstance(output, tuple | list) else (output,):
                if isinstance(value, Tensor):
                    largest = float(value.abs().max())
                    with lock:
                        peaks[name] = max(peaks.get(name, 0.0), largest)

        return hook

    hooks = [
        module.register_forward_hook(record(name))
        for name, module in network.named_modules()
        if name.split(".")[0] in TRUNK
    ]
    try:
        yield peaks
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def _outputs(network: Deconfounded, faces: NDArray[np.uint8]) -> ModelOutputs:
    return ModelOutputs(*(output.numpy() for output in network(torch.from_numpy(faces))))
