"""onnxruntime graphs for a fixed number of faces. Their tensors keep their addresses, as a CUDA graph requires."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, Artifact
from iern.runtime.backends.providers import PROVIDERS, Model, failure_message, load_on_gpu, ort_message
from iern.runtime.errors import SessionError
from iern.runtime.session import batch_sizes

if TYPE_CHECKING:
    import onnxruntime

BatchRunner = Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]
"""(b, S, S, 3) uint8 faces -> probabilities (b, E), logits (b, E) and stratum logits (b, N, E)."""


def fixed_batches(
    ort: ModuleType, model: Model, artifact: Artifact, key: str, threads: int, largest: int
) -> BatchRunner:
    """Open the model on the provider of that key -> a function that runs it on 1 to `largest` faces.

    Raises SessionError if the provider cannot run the whole model.
    """
    provider = PROVIDERS[key]
    try:
        batches = [
            FixedBatch(ort, load_on_gpu(ort, model, key, threads, size), artifact, size, provider.device)
            for size in batch_sizes(largest)
        ]
    except SessionError:
        raise
    except Exception as error:  # onnxruntime's own exceptions share no other base
        raise SessionError(failure_message(provider, ort_message(error))) from error

    def run(faces: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return next(batch for batch in batches if len(faces) <= batch.size)(faces)

    return run


class FixedBatch:
    """`batch(faces)` -> the graph's outputs, as new arrays. Use it from one thread."""

    def __init__(
        self, ort: ModuleType, graph: onnxruntime.InferenceSession, artifact: Artifact, size: int, device: str
    ) -> None:
        """`graph` takes exactly `size` faces on `device`.

        It runs once here: the first run allocates and is captured, and some failures of a GPU show only then.
        Raises whatever onnxruntime raises.
        """
        expressions, strata = len(artifact.expressions), len(artifact.strata)
        shapes = ((size, expressions), (size, expressions), (size, strata, expressions))
        self.size = size
        self._graph = graph
        self._faces = np.zeros((size, *artifact.input.shape), np.uint8)
        # On the CPU, onnxruntime works in the memory that it is given. It therefore gets a copy.
        self._input = ort.OrtValue.ortvalue_from_numpy(self._faces.copy(), device, 0)
        self._outputs = [ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32), device, 0) for shape in shapes]
        self._binding = graph.io_binding()
        self._binding.bind_ortvalue_input(INPUT_NAME, self._input)
        for name, value in zip(OUTPUT_NAMES, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(name, value)
        self(self._faces)

    def __call__(self, faces: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """(b, S, S, 3) uint8, 1 <= b <= size -> probabilities (b, E), logits (b, E), stratum logits (b, N, E)."""
        self._faces[: len(faces)] = faces  # the other rows keep old faces, and their outputs are dropped
        self._input.update_inplace(self._faces)
        self._binding.synchronize_inputs()
        self._graph.run_with_iobinding(self._binding)
        return [np.array(value.numpy()[: len(faces)]) for value in self._outputs]
