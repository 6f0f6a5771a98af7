"""The double of TensorRT: the part of its Python package that a session calls, with onnxruntime instead of a GPU.

It runs over the double of the driver (tests/doubles/gpu/driver). Addresses are in the host's memory.
`execute_async_v3` sends its work to the stream like a kernel, so it can be recorded or delayed. The double checks
TensorRT's conditions: all addresses are set, shapes are within the chosen profile, and scratch memory is given. The
first run after a new shape allocates memory, which fails while the stream is recorded.
"""

from __future__ import annotations

import ctypes
import enum
import json
import weakref
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

__version__ = "10.3.0"

MAGIC = b"engine double\n"
NUMPY = {"UINT8": np.uint8, "FLOAT": np.float32, "HALF": np.float16}
ONNX = {"tensor(uint8)": "UINT8", "tensor(float)": "FLOAT", "tensor(float16)": "HALF"}
HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
SCRATCH = 4096

alive: list[str] = []
"""Class names of the objects that exist, in the order in which they were made."""


class DataType(enum.Enum):
    UINT8, FLOAT, HALF = range(3)


class TensorIOMode(enum.Enum):
    INPUT, OUTPUT = range(2)


class TensorFormat(enum.Enum):
    LINEAR, CHW32 = range(2)


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC, USER_MANAGED = range(2)


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY, EAGER = range(2)


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR, ERROR, WARNING = range(3)

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class _Alive:
    """An object that is in `alive` while it exists."""

    def __init__(self) -> None:
        alive.append(type(self).__name__)

    def __del__(self) -> None:
        alive.remove(type(self).__name__)


class _Tensor(NamedTuple):
    mode: TensorIOMode
    kind: DataType
    shape: tuple[int, ...]
    """-1 for the first side."""


def make_plan(onnx: bytes, batches: tuple[int, ...], **changes: Any) -> bytes:
    """Make a plan for the double, with a profile for each batch.

    `changes` may give the `layout` of a tensor that is not LINEAR, and `profiles`: smallest, usual and largest batches.
    """
    header = {"profiles": [[batch] * 3 for batch in batches], **changes}
    return MAGIC + json.dumps(header).encode() + b"\n" + onnx


class Runtime(_Alive):
    def __init__(self, logger: ILogger) -> None:
        super().__init__()
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine | None:
        if not plan.startswith(MAGIC):
            self._logger.log(ILogger.Severity.WARNING, "a warning")
            self._logger.log(ILogger.Severity.ERROR, "Serialization assertion plan->header.magicTag failed.")
            return None
        header, onnx = plan[len(MAGIC) :].split(b"\n", 1)
        return ICudaEngine(self, json.loads(header), onnx)


class IRuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
    strategy = ExecutionContextAllocationStrategy.STATIC

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.strategy = strategy


class ICudaEngine(_Alive):
    device_memory_size_v2 = SCRATCH

    def __init__(self, runtime: Runtime, header: dict[str, Any], onnx: bytes) -> None:
        super().__init__()
        self._runtime = runtime
        self._header = header
        self.graph = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        self._tensors = {
            value.name: _Tensor(
                mode,
                DataType[ONNX[value.type]],
                tuple(side if index and isinstance(side, int) else -1 for index, side in enumerate(value.shape)),
            )
            for mode, values in (
                (TensorIOMode.INPUT, self.graph.get_inputs()),
                (TensorIOMode.OUTPUT, self.graph.get_outputs()),
            )
            for value in values
        }

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._tensors[name].mode

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._tensors[name].kind

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def get_tensor_format(self, name: str) -> TensorFormat:
        return TensorFormat[self._header.get("layout", {}).get(name, "LINEAR")]

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._header["profiles"])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(batch, *self._tensors[name].shape[1:]) for batch in self._header["profiles"][profile]]

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(
        self, how: ExecutionContextAllocationStrategy | IRuntimeConfig
    ) -> IExecutionContext | None:
        if isinstance(how, IRuntimeConfig):
            assert how.dynamic_shapes_kernel_specialization_strategy.name == "EAGER"
            how = how.strategy
        return IExecutionContext(self, own_memory=how.name == "STATIC")


class IExecutionContext(_Alive):
    def __init__(self, engine: ICudaEngine, own_memory: bool) -> None:
        super().__init__()
        self._engine = engine
        self._memory = SCRATCH if own_memory else 0
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._profile = -1  # only the first context of an engine of TensorRT begins with a profile
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._deferred = ctypes.c_void_p()
        self._calls: list[Any] = []  # a recording holds their addresses

    def __del__(self) -> None:
        if self._deferred:
            self._driver.cuMemFree_v2(self._deferred)
        super().__del__()

    def set_device_memory(self, address: int, size: int) -> None:
        assert address % 256 == 0
        self._memory = size

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        if stream == 0 or not 0 <= profile < self._engine.num_optimization_profiles:
            return False
        self._profile, self._shapes, self._addresses = profile, {}, {}
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self._profile < 0:
            return False
        smallest, _, largest = self._engine.get_tensor_profile_shape(name, self._profile)
        if not smallest[0] <= shape[0] <= largest[0] or tuple(shape[1:]) != smallest[1:]:
            return False
        # The shapes of the outputs come from the graph.
        outputs = self._engine.graph.run(None, {name: np.zeros(shape, np.uint8)})
        names = [output.name for output in self._engine.graph.get_outputs()]
        self._shapes = {name: tuple(shape), **{n: a.shape for n, a in zip(names, outputs, strict=True)}}
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        if name not in self._shapes or address % 256:
            return False
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if self._addresses.keys() != self._shapes.keys() or self._memory < SCRATCH or stream == 0:
            return False
        if not self._deferred and self._driver.cuMemAlloc_v2(ctypes.byref(self._deferred), ctypes.c_size_t(64)):
            self._engine._runtime._logger.log(ILogger.Severity.ERROR, "Cuda failure: stream is capturing")
            return False
        run = weakref.WeakMethod(self._run)  # no reference cycle: TensorRT's contexts are freed with the last reference
        call = HOST_FUNCTION(lambda _: run()())
        self._calls.append(call)
        return not self._driver.cuLaunchHostFunc(ctypes.c_void_p(stream), call, None)

    def _run(self) -> None:
        (name,) = (value.name for value in self._engine.graph.get_inputs())
        for output, values in zip(
            self._engine.graph.get_outputs(),
            self._engine.graph.run(None, {name: self._array(name)}),
            strict=True,
        ):
            self._array(output.name)[...] = values

    def _array(self, name: str) -> np.ndarray:
        """Return the tensor at its address as an array."""
        shape, kind = self._shapes[name], NUMPY[self._engine.get_tensor_dtype(name).name]
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(self._addresses[name]), kind).reshape(shape)
