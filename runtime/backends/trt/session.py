"""A TensorRT engine as a session: the plan on the GPU, the kernel behind it where it ends at the maps."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iern.cpp_ext.kernel_binaries import binaries_for
from iern.cpp_ext.pycuda_tail import PycudaTail, on_device
from iern.runtime.backends.trt.batch import EngineBatch
from iern.runtime.backends.trt.contract import check_engine
from iern.runtime.backends.trt.cuda_context import CudaDevice, cuda_device
from iern.runtime.backends.trt.engine_file import BACKENDS, EngineFile, build_command, check_fits, read_engine
from iern.runtime.backends.trt.plan import load_engine, load_tensorrt, make_context, make_logger
from iern.runtime.errors import EngineError, IernError, SessionError, one_line
from iern.runtime.session import MAX_BATCH, Predictions, Session, batch_sizes

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: a stream that neither waits for the default stream nor makes it wait. Work of others there
would end a recording."""


class TensorRtSession(Session):
    """An engine on an NVIDIA GPU. Each call may come from another thread, as long as calls do not overlap."""

    def __init__(self, path: Path | str, max_batch: int = MAX_BATCH, graph: bool = True) -> None:
        """`max_batch` is lowered to what the engine takes; without `graph` calls are sent piece by piece.

        Raises ArtifactError where files are missing or do not belong together, EngineError where the engine does not
        fit this machine, both with the command that builds it again, and SessionError where this machine cannot run
        any engine.
        """
        path = Path(path)
        file = read_engine(path)
        device = cuda_device()
        trt = load_tensorrt(file.manifest.backend)
        check_fits(path, file.manifest, str(trt.__version__), device.gpu)
        largest = min(max_batch, file.manifest.batches[-1])
        provider = f"{BACKENDS[file.manifest.backend].lower()}, head {file.manifest.head}"
        super().__init__(file.artifact, provider, largest)
        self._device = device
        self._resources = ExitStack()
        self._batches: list[EngineBatch] = []
        try:
            with device.current(), _letting_go(), ExitStack() as resources:
                self._batches = _prepare(device, trt, file, largest, graph, resources)
                self._resources = resources.pop_all()
        except EngineError as error:
            raise EngineError(f"{path}: {error}; build it again: {build_command(path, file.manifest)}") from error
        except IernError as error:
            raise SessionError(f"{path}: {error}") from error
        except Exception as error:  # pycuda's and TensorRT's own
            raise SessionError(
                f"{path}: the GPU fails ({one_line(error)}); free memory on it, or give a smaller largest batch"
            ) from error
        self.note = next((batch.note for batch in self._batches if batch.note), "")

    def close(self) -> None:
        if self._batches:
            with self._device.current():
                self._resources.close()
                self._batches = []  # and with them TensorRT's contexts, then the engine, and the stream

    def _run(self, faces: NDArray[np.uint8]) -> Predictions:
        if not self._batches:
            raise SessionError("the session is closed; open the model again")
        batch = next(batch for batch in self._batches if len(faces) <= batch.size)
        with self._device.current():
            try:
                return Predictions(*batch(faces))
            except Exception as error:  # pycuda's and TensorRT's own
                remedy = "restart the process" if self._device.is_lost() else "try again, or open the model again"
                raise SessionError(f"{len(faces)} faces on {self.provider}: {one_line(error)}; {remedy}") from error


@contextmanager
def _letting_go() -> Iterator[None]:
    """An error that leaves the block does not keep alive what its functions held: TensorRT's objects end here."""
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise


def _prepare(
    device: CudaDevice, trt: Any, file: EngineFile, largest: int, graph: bool, resources: ExitStack
) -> list[EngineBatch]:
    """Batches for up to `largest` faces, smallest first. Closing `resources` gives all back, last things first."""
    driver, manifest, artifact = device.driver, file.manifest, file.artifact
    logger = make_logger(trt)
    engine = load_engine(trt, logger, file.plan)
    check_engine(trt, engine, file)
    sizes = sorted({max(size, manifest.batches[0]) for size in batch_sizes(largest)})
    stream = driver.Stream(NON_BLOCKING)
    tail = _make_tail(device, file, stream, sizes[-1], resources)
    scratch = on_device(driver, engine.device_memory_size_v2, resources)
    batches = []
    for size in sizes:
        context = make_context(trt, manifest.backend, engine, scratch)
        if context is None:
            raise SessionError(f"TensorRT makes no execution context ({logger.told()}); free memory on the GPU")
        batches.append(EngineBatch(driver, context, stream, artifact, size, tail, graph, logger.told, resources))
    return batches


def _make_tail(
    device: CudaDevice, file: EngineFile, stream: Any, faces: int, resources: ExitStack
) -> PycudaTail | None:
    """The kernel for up to so many faces, where the engine has no head of its own."""
    if file.tail is None:
        return None
    artifact = file.artifact
    try:
        return PycudaTail(
            device.driver,
            binaries_for(device.gpu.compute_capability),
            stream,
            *file.tail,
            strata=len(artifact.strata),
            faces=faces,
            half=file.manifest.precision == "fp16",
            resources=resources,
            temperature=artifact.temperature,
            answer=artifact.answer,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise SessionError(f"{one_line(error, longest=500)}; or build the engine with --head native") from error
