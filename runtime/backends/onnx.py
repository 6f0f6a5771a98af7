"""An exported model, ready to judge faces: one way to call it, one class for each backend.

`with open_session("model.onnx") as session: answer = session(faces)`
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, Artifact
from iern.runtime.backends.batches import BatchRunner, fixed_batches
from iern.runtime.backends.providers import Model, import_onnxruntime, load_on_cpu, ort_message, provider_order
from iern.runtime.errors import ArtifactError, SessionError
from iern.runtime.session import MAX_BATCH, Predictions, Session
from iern.runtime.system.cpu_budget import cpu_budget

if TYPE_CHECKING:
    import onnxruntime

EXPORT_AGAIN = "export the checkpoint again: python export/to_trt.py ckpt.pt"

_Tensor = tuple[str, tuple[int, ...]]
"""Onnxruntime's type, and the shape behind the batch."""


class OnnxSession(Session):
    """A model in onnxruntime, on the CPU or an NVIDIA GPU."""

    def __init__(
        self,
        model: Model,
        provider: str = "auto",
        strict: bool = False,
        max_batch: int = MAX_BATCH,
        threads: int | None = None,
    ) -> None:
        """`model` is an exported file or its content; `threads` are by default all that this process may use.

        `auto` takes CUDA where onnxruntime was built for it. What a provider cannot run as a whole runs on the next
        one, at last on the CPU: `provider` says where, and `note` why. With `strict` that is refused.
        Raises ArtifactError for a file that is none of ours, SessionError where the backend cannot run as asked.
        """
        name = "the model in memory" if isinstance(model, bytes) else str(model)
        _check_file(model, name)
        ort = import_onnxruntime()
        keys = provider_order(provider, ort.get_available_providers())
        threads = threads or cpu_budget()
        # Always on the CPU first: what fails there is the file's fault, and not the GPU's.
        graph = _load(ort, model, name, threads)
        artifact = Artifact.from_metadata(graph.get_modelmeta().custom_metadata_map, name)
        _check_contract(graph, artifact, name)

        def judge_on(key: str) -> BatchRunner:
            if key == "cpu":
                return lambda faces: graph.run(OUTPUT_NAMES, {INPUT_NAME: faces})
            return fixed_batches(ort, model, artifact, key, threads, max_batch)

        try:
            key, judge, note = _first_that_runs(keys[:1] if strict else keys, judge_on)
        except SessionError as error:
            raise SessionError(f"{name}: {error}; or leave --strict out") from error
        super().__init__(artifact, key, max_batch, note)
        self._judge: BatchRunner | None = judge

    def close(self) -> None:
        self._judge = None

    def _run(self, faces: NDArray[np.uint8]) -> Predictions:
        if self._judge is None:
            raise SessionError("the session is closed; open the model again")
        try:
            return Predictions(*self._judge(faces))
        except Exception as error:  # onnxruntime's own exceptions share no other base
            raise SessionError(f"{len(faces)} faces on {self.provider}: {ort_message(error)}") from error


def open_session(
    model: Model,
    provider: str = "auto",
    strict: bool = False,
    max_batch: int = MAX_BATCH,
    threads: int | None = None,
) -> Session:
    """Open an exported model, or an engine, on the backend that its suffix names.

    The arguments are those of `OnnxSession`; an engine goes its own way, with `provider` auto, and falls back on none.
    Raises ArtifactError for a file that no backend reads, and what the backend's session raises.
    """
    if isinstance(model, bytes) or Path(model).suffix.lower() == ".onnx":
        return OnnxSession(model, provider, strict, max_batch, threads)
    if Path(model).suffix.lower() == ".engine":
        if provider != "auto":
            raise SessionError(
                f"{model}: is an engine of TensorRT's, which no other provider runs; leave {provider} out"
            )
        from iern.runtime.backends.trt.session import TensorRtSession  # late: it is made from this module's Session

        return TensorRtSession(model, max_batch)
    if Path(model).suffix.lower() in (".pt", ".pth", ".ckpt"):
        raise ArtifactError(f"{model}: a checkpoint must be exported first: python export/to_trt.py {model}")
    raise ArtifactError(f"{model}: expected an exported model, a file that ends in .onnx or .engine")


def _check_file(model: Model, name: str) -> None:
    if isinstance(model, bytes):
        size = len(model)
    elif not Path(model).is_file():
        raise ArtifactError(f"{name}: no such file; check the path, or {EXPORT_AGAIN}")
    else:
        size = Path(model).stat().st_size
    if size == 0:
        raise ArtifactError(f"{name}: is empty (0 bytes); {EXPORT_AGAIN}")


def _load(ort: ModuleType, model: Model, name: str, threads: int) -> onnxruntime.InferenceSession:
    try:
        return load_on_cpu(ort, model, threads)
    except Exception as error:  # onnxruntime's own exceptions share no other base
        raise ArtifactError(
            f"{name}: onnxruntime cannot load it ({ort_message(error)}); expected the one whole file that "
            f"export/to_trt.py writes: copy it again, or {EXPORT_AGAIN}"
        ) from error


def _first_that_runs(keys: list[str], open_on: Callable[[str], BatchRunner]) -> tuple[str, BatchRunner, str]:
    """The first provider that opens, what it opens, and why those before it did not.

    Raises SessionError with all the reasons where none does.
    """
    reasons: list[str] = []
    for key in keys:
        try:
            return key, open_on(key), "; ".join(reasons)
        except SessionError as error:
            reasons.append(str(error))
    raise SessionError("; ".join(reasons))


def _check_contract(graph: onnxruntime.InferenceSession, artifact: Artifact, name: str) -> None:
    """Refuse a graph whose inputs and outputs are not those that its metadata promises."""
    expressions = len(artifact.expressions)
    shapes = ((expressions,), (expressions,), (len(artifact.strata), expressions))
    expected: dict[str, _Tensor] = {INPUT_NAME: ("tensor(uint8)", artifact.input.shape)}
    expected.update({output: ("tensor(float)", shape) for output, shape in zip(OUTPUT_NAMES, shapes, strict=True)})
    tensors = (*graph.get_inputs(), *graph.get_outputs())
    found: dict[str, _Tensor] = {tensor.name: (tensor.type, tuple(tensor.shape[1:])) for tensor in tensors}
    if found != expected:
        raise ArtifactError(f"{name}: has {_listed(found)}; its metadata promises {_listed(expected)}; {EXPORT_AGAIN}")
    for tensor in tensors:
        if isinstance(tensor.shape[0], int):
            raise ArtifactError(f"{name}: takes {tensor.shape[0]} faces, no more and no fewer; {EXPORT_AGAIN}")


def _listed(tensors: dict[str, _Tensor]) -> str:
    """`image (batch, 112, 112, 3) uint8, probabilities …` for a message."""
    return ", ".join(
        f"{name} ({', '.join(map(str, ('batch', *shape)))}) {kind.removeprefix('tensor(').removesuffix(')')}"
        for name, (kind, shape) in tensors.items()
    )
