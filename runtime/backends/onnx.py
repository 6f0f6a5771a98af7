"""An exported model in onnxruntime, and `open_session`, which opens a model on the backend for its file type.

`with open_session("model.onnx") as session: predictions = session(faces)`
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, Artifact, Prior
from iern.runtime.backends.batches import BatchRunner, fixed_batches
from iern.runtime.backends.precision import open_in_precision
from iern.runtime.backends.prior import PriorSession
from iern.runtime.backends.providers import Model, import_onnxruntime, load_on_cpu, ort_message, provider_order
from iern.runtime.backends.server_address import EXPECTED, is_served, parse_server_address
from iern.runtime.backends.triton import open_served
from iern.runtime.backends.trt.session import TensorRtSession
from iern.runtime.checksum import check_content
from iern.runtime.errors import ArtifactError, PriorError, SessionError
from iern.runtime.session import MAX_BATCH, Predictions, Session
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.remedies import run_script

if TYPE_CHECKING:
    import onnxruntime

EXPORT_AGAIN = f"export the checkpoint again: {run_script('export/to_trt.py')} ckpt.pt"

FEW_FACES = 2
"""Faces in a call up to which one thread is as fast as several in 8 bits, and takes less of the processor."""

LONGEST_PATH = 4096
"""Bytes. A shorter model in memory may be a path by mistake."""

_Tensor = tuple[str, tuple[int, ...]]
"""onnxruntime's name of the number type, and the shape after the batch axis."""


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
        """`model` is an exported file or its content. `threads` are by default all that this process may use.

        `auto` takes CUDA if onnxruntime was built for it, and otherwise the CPU. A provider must run the whole model.
        Otherwise the next one is used, at last the CPU; `self.provider` is the one in use, and `self.note` the reason.
        With `strict` that is an error.
        Raises ArtifactError if the file is not an iern model, SessionError if the provider cannot run it.
        """
        name = _name(model)
        _check_file(model, name)
        check_content(model if isinstance(model, bytes) else Path(model).read_bytes(), name)
        ort = import_onnxruntime()
        keys = provider_order(provider, ort.get_available_providers())
        threads = threads or cpu_budget()
        # Always on the CPU first: an error here comes from the file, not from the GPU.
        graph = _load(ort, model, name, threads)
        artifact = Artifact.from_metadata(graph.get_modelmeta().custom_metadata_map, name)
        _check_contract(graph, artifact, name)

        def runner_on(key: str) -> BatchRunner:
            if key == "cpu":
                one_thread = _load(ort, model, name, 1) if artifact.in_8_bits and threads > 1 else graph
                return lambda faces: (graph if len(faces) > FEW_FACES else one_thread).run(
                    OUTPUT_NAMES, {INPUT_NAME: faces}
                )
            return fixed_batches(ort, model, artifact, key, threads, max_batch)

        try:
            key, runner, note = _open_first(keys[:1] if strict else keys, runner_on)
        except SessionError as error:
            raise SessionError(f"{name}: {error}; or leave out --strict") from error
        super().__init__(artifact, key, max_batch, note)
        self._runner = runner

    def _free(self) -> None:
        del self._runner

    def _run(self, faces: NDArray[np.uint8]) -> Predictions:
        try:
            return Predictions(*self._runner(faces))
        except Exception as error:  # onnxruntime's own exceptions share no other base
            raise SessionError(f"{len(faces)} faces on {self.provider}: {ort_message(error)}") from error


def open_session(
    model: Model,
    provider: str = "auto",
    strict: bool = False,
    max_batch: int = MAX_BATCH,
    threads: int | None = None,
    prior: Prior | None = None,
    precision: str = "fp32",
) -> Session:
    """Open an exported model (.onnx) in onnxruntime, an engine (.engine) in TensorRT, or one on a Triton server.

    The arguments are those of `OnnxSession`, where `model` may also be `triton://host:port/name`. An engine or a served
    model needs `provider` auto, and there is no other provider for it.
    `prior` is how frequent the expressions are where the model is used: see `Artifact.with_prior`. None: as the model
    assumes.
    `precision` is fp32, which opens the file as it is, int8, which opens the 8-bit file beside it, or auto, which takes
    the faster one of the two: see `open_in_precision`. An engine or a served model takes no other than its own.
    Raises ArtifactError if no backend reads the file, PriorError if the model cannot be set to that prior, and what the
    backend's session raises.
    """
    session = _open(model, provider, strict, max_batch, threads or cpu_budget(), precision)
    if prior is None:
        return session
    try:
        return PriorSession(session, prior, _name(model))
    except PriorError:
        session.close()
        raise


def _open(model: Model, provider: str, strict: bool, max_batch: int, threads: int, precision: str) -> Session:
    """Open a model on the backend for its file type."""
    if not isinstance(model, bytes) and is_served(model):
        return open_served(model, provider, precision, max_batch)
    if isinstance(model, bytes) or Path(model).suffix.lower() == ".onnx":

        def open_file(file: Model, key: str) -> Session:
            return OnnxSession(file, key, strict, max_batch, threads)

        return open_in_precision(model, precision, provider, threads, open_file)
    if Path(model).suffix.lower() == ".engine":
        if precision == "int8":
            raise SessionError(f"{model}: is a TensorRT engine, which has a precision of its own; leave out int8")
        if provider != "auto":
            raise SessionError(
                f"{model}: is a TensorRT engine, which no other provider runs; leave out the provider {provider}"
            )
        return TensorRtSession(model, max_batch)
    if Path(model).suffix.lower() in (".pt", ".pth", ".ckpt"):
        raise ArtifactError(f"{model}: a checkpoint must be exported first: {run_script('export/to_trt.py')} {model}")
    raise ArtifactError(
        f"{model}: expected an exported model, a file that ends in .onnx or .engine; for a served one {EXPECTED}"
    )


def _name(model: Model) -> str:
    """Return what errors call the model."""
    if isinstance(model, bytes):
        return "the model in memory"
    return str(parse_server_address(model) if is_served(model) else model)


def _check_file(model: Model, name: str) -> None:
    if isinstance(model, bytes):
        size = len(model)
        if 0 < size < LONGEST_PATH and os.path.exists(model):
            raise ArtifactError(
                f"{name}: is the path {os.fsdecode(model)!r} as bytes, expected the content of an exported file; "
                "pass a path as str or Path, as os.fsdecode returns it"
            )
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


def _open_first(keys: list[str], open_on: Callable[[str], BatchRunner]) -> tuple[str, BatchRunner, str]:
    """Open the first provider that works -> its key, its runner, and the reasons why those before it failed.

    Raises SessionError with all the reasons if none works.
    """
    reasons: list[str] = []
    for key in keys:
        try:
            return key, open_on(key), "; ".join(reasons)
        except SessionError as error:
            reasons.append(str(error))
    raise SessionError("; ".join(reasons))


def _check_contract(graph: onnxruntime.InferenceSession, artifact: Artifact, name: str) -> None:
    """Raise ArtifactError if the graph's inputs and outputs are not those in its metadata."""
    expressions = len(artifact.expressions)
    shapes = ((expressions,), (expressions,), (len(artifact.strata), expressions))
    expected: dict[str, _Tensor] = {INPUT_NAME: ("tensor(uint8)", artifact.input.shape)}
    expected.update({output: ("tensor(float)", shape) for output, shape in zip(OUTPUT_NAMES, shapes, strict=True)})
    tensors = (*graph.get_inputs(), *graph.get_outputs())
    found: dict[str, _Tensor] = {tensor.name: (tensor.type, tuple(tensor.shape[1:])) for tensor in tensors}
    if found != expected:
        raise ArtifactError(
            f"{name}: has {_list_tensors(found)}; its metadata promises {_list_tensors(expected)}; {EXPORT_AGAIN}"
        )
    for tensor in tensors:
        if isinstance(tensor.shape[0], int):
            raise ArtifactError(
                f"{name}: takes exactly {tensor.shape[0]} faces per call, expected any number; {EXPORT_AGAIN}"
            )


def _list_tensors(tensors: dict[str, _Tensor]) -> str:
    """Return the tensors as text for a message: `image (batch, 112, 112, 3) uint8, probabilities …`."""
    return ", ".join(
        f"{name} ({', '.join(map(str, ('batch', *shape)))}) {kind.removeprefix('tensor(').removesuffix(')')}"
        for name, (kind, shape) in tensors.items()
    )
