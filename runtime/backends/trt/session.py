"""A TensorRT engine as a session: the plan on the GPU, and the kernel after it if it ends at the maps."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from iern.cpp_ext.kernel_binaries import binaries_for
from iern.cpp_ext.pycuda_tail import PycudaTail, TailSettings, on_device
from iern.runtime.backends.trt.batch import EngineBatch, EngineResources
from iern.runtime.backends.trt.contract import check_engine
from iern.runtime.backends.trt.cuda_context import CudaDevice, cuda_device
from iern.runtime.backends.trt.engine_file import BACKENDS, EngineFile, build_command, check_fits, read_engine
from iern.runtime.backends.trt.plan import load_engine, load_tensorrt, make_context, make_logger, scratch_size
from iern.runtime.errors import EngineError, IernError, SessionError, one_line
from iern.runtime.session import MAX_BATCH, Predictions, Session

Result = TypeVar("Result")

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the stream and the default stream do not wait for each other. Otherwise other work on the
default stream would end a recording."""


class TensorRtSession(Session):
    """An engine on an NVIDIA GPU."""

    def __init__(self, path: Path | str, max_batch: int = MAX_BATCH, graph: bool = True) -> None:
        """`max_batch` is lowered to what the engine takes. Without `graph`, no CUDA graph is recorded.

        Raises ArtifactError if files are missing or do not belong together, and EngineError if the engine does not fit
        this machine, both with the command that builds it again. Raises SessionError if this machine cannot run any
        engine.
        """
        path = Path(path)
        file = read_engine(path)
        device = cuda_device()
        trt = load_tensorrt(file.manifest.backend)
        check_fits(path, file.manifest, str(trt.__version__), device.gpu)
        largest = min(max_batch, file.manifest.batches[-1])
        sizes = _sizes_for(file.manifest.batches, largest)
        provider = f"{BACKENDS[file.manifest.backend].lower()}, head {file.manifest.head}"
        super().__init__(file.artifact, provider, largest)
        self._device = device
        self._memory = ExitStack()
        self._batches: list[EngineBatch] = []
        try:
            with device.current(), _clear_frames_on_error(), ExitStack() as memory:
                self._batches = _make_batches(device, trt, file, sizes, graph, memory)
                self._memory = memory.pop_all()
        except EngineError as error:
            raise EngineError(f"{path}: {error}; build it again: {build_command(path, file.manifest)}") from error
        except IernError as error:
            raise SessionError(f"{path}: {error}") from error
        except Exception as error:  # pycuda's and TensorRT's own
            raise SessionError(
                f"{path}: the GPU fails ({one_line(error)}); free memory on it, or use a smaller largest batch"
            ) from error
        self.note = next((batch.note for batch in self._batches if batch.note), "")

    def _free(self) -> None:
        with self._device.current():
            self._memory.close()
            self._batches = []  # frees TensorRT's contexts, then the engine and the stream

    def timed(self, faces: NDArray[np.uint8]) -> tuple[Predictions, float]:
        """As a call with 1 to `max_batch` faces -> Predictions, and the GPU's milliseconds for them, copies included.

        Two CUDA events on the session's own stream measure them. Raises SessionError.
        """
        self._check(faces)
        if not 1 <= len(faces) <= self.max_batch:
            raise SessionError(f"expected 1 to {self.max_batch} faces in a call that is timed, found {len(faces)}")
        with self._lock:
            if self.closed:
                raise SessionError("the session is closed; open the model again")
            outputs, milliseconds = self._on_batch(faces, EngineBatch.timed)
        return Predictions(*outputs), milliseconds

    def _run(self, faces: NDArray[np.uint8]) -> Predictions:
        return Predictions(*self._on_batch(faces, EngineBatch.__call__))

    def _on_batch(self, faces: NDArray[np.uint8], call: Callable[[EngineBatch, NDArray[np.uint8]], Result]) -> Result:
        """Make a call of the smallest batch that has room for the faces. Raises SessionError."""
        batch = next(batch for batch in self._batches if len(faces) <= batch.size)
        with self._device.current():
            try:
                return call(batch, faces)
            except Exception as error:  # pycuda's and TensorRT's own
                remedy = "restart the process" if self._device.is_lost() else "try again, or open the model again"
                raise SessionError(f"{len(faces)} faces on {self.provider}: {one_line(error)}; {remedy}") from error


@contextmanager
def _clear_frames_on_error() -> Iterator[None]:
    """Clear the frames of an error that leaves the block, so that TensorRT's objects are freed here."""
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise


def _sizes_for(batches: Sequence[int], largest: int) -> list[int]:
    """The numbers of faces that an engine takes -> those of them that up to `largest` faces need."""
    enough = next(size for size in batches if size >= largest)
    return [size for size in batches if size <= enough]


def _make_batches(
    device: CudaDevice, trt: Any, file: EngineFile, sizes: Sequence[int], graph: bool, memory: ExitStack
) -> list[EngineBatch]:
    """Make a batch for each size, in their order. Closing `memory` frees theirs in reverse order."""
    driver, manifest = device.driver, file.manifest
    logger = make_logger(trt)
    engine = load_engine(trt, logger, file.plan)
    check_engine(trt, engine, file)
    stream = driver.Stream(NON_BLOCKING)
    tail = _make_tail(device, file, stream, sizes[-1], memory)
    scratch = on_device(driver, scratch_size(trt, engine), memory)
    shared = EngineResources(driver, stream, file.artifact, tail, logger.take_errors, memory)
    batches = []
    for size in sizes:
        profile = manifest.batches.index(size)
        context = make_context(trt, manifest.backend, engine, profile, scratch, stream.handle)
        if context is None:
            raise SessionError(
                f"TensorRT cannot make an execution context ({logger.take_errors()}); free memory on the GPU"
            )
        batches.append(EngineBatch(shared, context, size, graph))
    return batches


def _make_tail(device: CudaDevice, file: EngineFile, stream: Any, faces: int, memory: ExitStack) -> PycudaTail | None:
    """Load the kernel for up to `faces` faces. None if the engine gives the outputs itself."""
    if file.tail is None:
        return None
    artifact = file.artifact
    settings = TailSettings(
        strata=len(artifact.strata),
        faces=faces,
        half=file.manifest.precision == "fp16",
        temperature=artifact.temperature,
        answer=artifact.answer,
    )
    try:
        binaries = binaries_for(device.gpu.compute_capability)
        return PycudaTail(device.driver, binaries, stream, file.tail, settings, memory)
    except (RuntimeError, ValueError, OSError) as error:
        raise SessionError(f"{one_line(error, longest=500)}; or build the engine with --head native") from error
