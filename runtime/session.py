"""An exported model, ready to judge faces: one way to call it, one class for each backend.

`with open_session("model.onnx") as session: answer = session(faces)`
"""

from __future__ import annotations

import abc
import contextlib
import io
import re
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, Artifact
from iern.runtime.errors import ArtifactError, SessionError
from iern.runtime.threads import cpu_budget

if TYPE_CHECKING:
    import onnxruntime

ORT_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
MAX_BATCH = 16
EXPORT_AGAIN = "export the checkpoint again: python export/to_trt.py ckpt.pt"

_Tensor = tuple[str, tuple[int, ...]]
"""onnxruntime's type, and the shape behind the batch"""


@dataclass(frozen=True, eq=False)
class Answer:
    """What the network says about B faces. Rows are faces, in the order in which they were given."""

    probabilities: NDArray[np.float32]
    """(B, E), after the temperature; each row sums to 1"""
    logits: NDArray[np.float32]
    """(B, E), averaged over the strata, before the temperature"""
    stratum_logits: NDArray[np.float32]
    """(B, N, E), before the temperature"""


class Session(abc.ABC):
    """A model on a backend. A backend adds `_run`; checking, splitting and joining are the same for all."""

    def __init__(self, artifact: Artifact, provider: str, max_batch: int) -> None:
        """`provider` names where the model really runs; `max_batch` is the most faces that one `_run` gets."""
        if max_batch < 1:
            raise SessionError(f"expected a largest batch of at least 1, found {max_batch}")
        self.artifact = artifact
        self.provider = provider
        self.max_batch = max_batch

    def __call__(self, faces: NDArray[np.uint8]) -> Answer:
        """(B, S, S, 3) uint8 BGR faces, any B from 0 -> the answer; more than `max_batch` go in several runs.

        Raises SessionError where the faces do not fit the model, or the backend fails.
        """
        self._check(faces)
        if len(faces) == 0:
            return self._nothing()
        parts = [self._run(faces[start : start + self.max_batch]) for start in range(0, len(faces), self.max_batch)]
        return parts[0] if len(parts) == 1 else _joined(parts)

    @abc.abstractmethod
    def close(self) -> None:
        """Give the backend's memory back; the session cannot be called afterwards."""

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abc.abstractmethod
    def _run(self, faces: NDArray[np.uint8]) -> Answer:
        """(b, S, S, 3) uint8, 1 <= b <= max_batch -> its answer."""

    def _check(self, faces: NDArray[np.uint8]) -> None:
        shape = self.artifact.input.shape
        if isinstance(faces, np.ndarray) and faces.dtype == np.uint8 and faces.ndim == 4 and faces.shape[1:] == shape:
            return
        found = f"{faces.shape} {faces.dtype}" if isinstance(faces, np.ndarray) else type(faces).__name__
        raise SessionError(
            f"expected faces of (batch, {', '.join(map(str, shape))}) uint8, found {found}; "
            "cut them with iern.runtime.preprocess.crop_faces"
        )

    def _nothing(self) -> Answer:
        strata, expressions = len(self.artifact.strata), len(self.artifact.expressions)
        shapes = ((0, expressions), (0, expressions), (0, strata, expressions))
        return Answer(*(np.empty(shape, np.float32) for shape in shapes))


class OnnxSession(Session):
    """A model in onnxruntime, on the CPU or an NVIDIA GPU."""

    def __init__(
        self,
        model: Path | str | bytes,
        provider: str = "auto",
        strict: bool = False,
        max_batch: int = MAX_BATCH,
        threads: int | None = None,
    ) -> None:
        """`model` is an exported file or its content; `threads` are by default all that this process may use.

        `auto` takes the GPU where onnxruntime was built for one. Where the GPU cannot be used, the model runs on the
        CPU, and `provider` says so; with `strict` that is refused, for single operations as well.
        Raises ArtifactError for a file that is none of ours, SessionError where the backend cannot run as asked.
        """
        name = "the model in memory" if isinstance(model, bytes) else str(model)
        _check_file(model, name)
        ort = _import_onnxruntime()
        graph = _load(ort, model, name, _choose(ort, provider, strict), strict, threads or cpu_budget())
        artifact = Artifact.from_metadata(graph.get_modelmeta().custom_metadata_map, name)
        _check_contract(graph, artifact, name)
        runs_on = graph.get_providers()[0]
        super().__init__(artifact, next(key for key, value in ORT_PROVIDERS.items() if value == runs_on), max_batch)
        self._graph: onnxruntime.InferenceSession | None = graph

    def close(self) -> None:
        self._graph = None

    def _run(self, faces: NDArray[np.uint8]) -> Answer:
        if self._graph is None:
            raise SessionError("the session is closed; open the model again")
        try:
            return Answer(*self._graph.run(OUTPUT_NAMES, {INPUT_NAME: faces}))
        except Exception as error:  # onnxruntime's own exceptions share no other base
            raise SessionError(f"{len(faces)} faces on {self.provider}: {_one_line(error)}") from error


def open_session(
    model: Path | str | bytes,
    provider: str = "auto",
    strict: bool = False,
    max_batch: int = MAX_BATCH,
    threads: int | None = None,
) -> Session:
    """Open an exported model on the backend that its suffix names; the arguments are those of `OnnxSession`.

    Raises ArtifactError for a file that no backend reads.
    """
    if isinstance(model, bytes) or Path(model).suffix.lower() == ".onnx":
        return OnnxSession(model, provider, strict, max_batch, threads)
    if Path(model).suffix.lower() in (".pt", ".pth", ".ckpt"):
        raise ArtifactError(f"{model}: a checkpoint must be exported first: python export/to_trt.py {model}")
    raise ArtifactError(f"{model}: expected an exported model, a file that ends in .onnx")


def _joined(parts: list[Answer]) -> Answer:
    return Answer(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Answer)))


def _check_file(model: Path | str | bytes, name: str) -> None:
    if isinstance(model, bytes):
        size = len(model)
    elif not Path(model).is_file():
        raise ArtifactError(f"{name}: no such file; check the path, or {EXPORT_AGAIN}")
    else:
        size = Path(model).stat().st_size
    if size == 0:
        raise ArtifactError(f"{name}: is empty (0 bytes); {EXPORT_AGAIN}")


def _import_onnxruntime() -> ModuleType:
    """onnxruntime, which only this class needs, and which logs errors alone from here on."""
    try:
        import onnxruntime
    except ImportError as error:
        raise SessionError(
            f"onnxruntime cannot be imported ({_one_line(error)}); pip install 'iern[cpu]', or 'iern[gpu]' for NVIDIA"
        ) from error
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def _choose(ort: ModuleType, provider: str, strict: bool) -> str:
    """The key in ORT_PROVIDERS of the provider to try: what was asked for, as far as onnxruntime was built for it."""
    if provider not in ("auto", *ORT_PROVIDERS):
        raise SessionError(f"unknown provider {provider!r}; expected auto, {', '.join(ORT_PROVIDERS)}")
    has_cuda = ORT_PROVIDERS["cuda"] in ort.get_available_providers()
    if provider == "cuda" and strict and not has_cuda:
        raise SessionError("this onnxruntime was built without CUDA; pip uninstall it, then pip install 'iern[gpu]'")
    return "cuda" if has_cuda and provider != "cpu" else "cpu"


def _load(
    ort: ModuleType, model: Path | str | bytes, name: str, provider: str, strict: bool, threads: int
) -> onnxruntime.InferenceSession:
    """The graph on `provider`, or on the CPU where that fails and `strict` permits.

    onnxruntime falls back by itself in two ways, both silent to the caller: single operations, and the whole graph
    where a GPU's library does not load. Strict closes both: the CPU is no choice, and what runs is looked at.
    """
    if provider == "cuda":
        _preload_cuda(ort)
        try:
            graph = _create(ort, model, ["cuda"] if strict else ["cuda", "cpu"], threads)
            if not strict or graph.get_providers()[0] == ORT_PROVIDERS["cuda"]:
                return graph
            reason = "onnxruntime could not load it"
        except Exception as error:  # the model's fault or the GPU's: the CPU tells them apart
            reason = _one_line(error)
    try:
        graph = _create(ort, model, ["cpu"], threads)
    except Exception as error:  # onnxruntime's own exceptions share no other base
        raise ArtifactError(
            f"{name}: onnxruntime cannot load it ({_one_line(error)}); expected the one whole file that "
            f"export/to_trt.py writes: copy it again, or {EXPORT_AGAIN}"
        ) from error
    if provider == "cuda" and strict:
        raise SessionError(f"{name}: CUDA cannot run all of it ({reason}); check nvidia-smi, or leave --strict out")
    return graph


def _create(
    ort: ModuleType, model: Path | str | bytes, providers: list[str], threads: int
) -> onnxruntime.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Left to itself, onnxruntime counts the machine's cores, pins a thread to each, and logs each one it may not pin.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while the detector works take its cores: 40 % of its speed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if "cpu" not in providers:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    source = model if isinstance(model, bytes) else str(model)
    names = [ORT_PROVIDERS[provider] for provider in providers]
    # Its own fallback ignores the providers asked for, and prints.
    return ort.InferenceSession(source, options, providers=names, enable_fallback=0)


def _preload_cuda(ort: ModuleType) -> None:
    """Load CUDA and cuDNN from pip's nvidia packages, where the system's loader does not look."""
    if hasattr(ort, "preload_dlls"):  # since 1.21
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find; creation says it again
            ort.preload_dlls()


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


def _one_line(error: Exception) -> str:
    """onnxruntime's messages without their prefix, line breaks and the final stop."""
    text = " ".join(str(error).split())
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text).rstrip(".")
