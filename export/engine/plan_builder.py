"""Graph -> TensorRT plan: one builder for TensorRT 10.3 to 11.x and for TensorRT for RTX.

Every network is strongly typed: the plan has the precision of the graph, and TensorRT chooses none. trtexec reads the
plan too. TensorRT for RTX builds for named GPUs and needs none. TensorRT builds for the GPU that it runs on.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from iern.export.engine.progress_monitor import make_monitor
from iern.runtime.artifact import INPUT_NAME
from iern.runtime.backends.trt.engine_file import BACKENDS
from iern.runtime.backends.trt.plan import REMEDIES, find_tensorrt, make_logger
from iern.runtime.errors import EngineError, one_line
from iern.runtime.system.files import atomic_path
from iern.runtime.system.signals import on_signals

OnStep = Callable[[str, int, int], None]
"""Phase, steps done, steps in all."""


class Backend(NamedTuple):
    """A TensorRT that is installed."""

    name: str
    """`tensorrt` or `rtx`."""
    package: ModuleType


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build. The defaults suit a webcam."""

    head: str | None = None
    """One of HEADS. None: the one that was measured to be faster with this GPU and TensorRT."""
    batches: tuple[int, int, int] = (1, 4, 16)
    """Smallest, usual and largest number of faces per call. The plan is fastest at the usual one."""
    workspace: int = 1 << 30
    """Bytes that TensorRT may use while it runs."""
    targets: tuple[str, ...] = ()
    """Compute capabilities such as `sm_89`, for RTX only. Empty: any GPU, compiled when the plan is first loaded."""
    timing_cache: Path | None = None
    """A file of measured kernel times, for TensorRT only. Read, then written again; it makes later builds faster."""
    log: Path | None = None
    """A file for TensorRT's verbose log."""


def load_backend(name: str = "auto") -> Backend:
    """`tensorrt`, `rtx`, or `auto` for the first that is installed -> the backend.

    Raises EngineError if it is not installed or cannot be imported.
    """
    reasons, remedies = [], []
    for backend in BACKENDS if name == "auto" else (name,):
        package, broken = find_tensorrt(backend)
        if package is not None:
            return Backend(backend, package)
        reasons += broken
        remedies.append(REMEDIES[backend])
    wanted = BACKENDS.get(name, "TensorRT")
    if reasons:
        raise EngineError(f"{wanted} is installed but cannot be imported ({'; '.join(reasons)}); install it again")
    raise EngineError(f"{wanted} is not installed; {', or '.join(remedies)}")


def build_plan(
    graph: bytes, backend: Backend, options: BuildOptions = BuildOptions(), on_step: OnStep | None = None
) -> bytes:
    """An exported graph -> the plan. The caller has chosen the head: `options.head` is not used.

    Raises EngineError with TensorRT's error if the plan cannot be built. After Ctrl-C, raises KeyboardInterrupt when
    TensorRT has ended its step.
    """
    check_options(options, backend)
    trt = backend.package
    with _log_file(options.log) as file, _interruptible() as stopped:
        logger = make_logger(trt, file)
        builder = trt.Builder(logger)
        network = builder.create_network(_strongly_typed(trt))
        parser = trt.OnnxParser(network, logger)
        _parse(parser, network, graph, logger)
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        # TF32 is on by default. It would compute single-precision matrix products with ten bits of mantissa.
        config.clear_flag(trt.BuilderFlag.TF32)
        if backend.name == "rtx":
            # A CUDA graph cannot record an engine that allocates memory while it runs.
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        monitor = make_monitor(trt, on_step or (lambda phase, done, of: None), stopped)
        config.progress_monitor = monitor
        config.add_optimization_profile(_profile(builder, network, options.batches))
        _set_targets(trt, config, options.targets)
        cache = _read_timing_cache(config, options.timing_cache)
        built = builder.build_serialized_network(network, config)
        if stopped():
            raise KeyboardInterrupt
        if built is None:
            raise EngineError(_failure("TensorRT cannot build this graph", logger, options.log))
        plan = bytes(built)
        if cache is not None:
            _write_timing_cache(config, options.timing_cache)
        # Deleted in this order: TensorRT crashes if a configuration outlives its builder.
        del built, cache, config, monitor, parser, network, builder
    return plan


def capability(text: str) -> str:
    """`sm_89`, `SM89` or `8.9` -> `SM89`, TensorRT's name. Raises EngineError for anything else."""
    found = re.fullmatch(r"(?:sm_?)?(\d{2,3})|(\d{1,2})\.(\d)", text.lower())
    if not found:
        raise EngineError(f"{text!r} is no compute capability; expected one such as sm_89")
    return f"SM{found[1] or found[2] + found[3]}"


def check_options(options: BuildOptions, backend: Backend) -> None:
    """Raise EngineError if the backend does not support the options."""
    smallest, usual, largest = options.batches
    if not 1 <= smallest <= usual <= largest:
        raise EngineError(f"batches {options.batches}: expected 1 <= smallest <= usual <= largest")
    if options.timing_cache is not None and backend.name == "rtx":
        raise EngineError(
            "TensorRT for RTX measures nothing while it builds, so it has no timing cache; leave out --timing-cache"
        )
    if options.targets and backend.name != "rtx":
        raise EngineError(
            "TensorRT builds for the GPU that it runs on, and --compute-capability needs --backend rtx; "
            "leave it out and build on the machine that will run the engine"
        )
    for target in map(capability, options.targets):
        known = [key for key in backend.package.ComputeCapability.__members__ if key.startswith("SM")]
        if target not in known:
            names = ", ".join(f"sm_{key[2:]}" for key in known)
            raise EngineError(f"TensorRT for RTX does not build for sm_{target[2:]}; it supports {names}")


def _strongly_typed(trt: ModuleType) -> int:
    """The flag, by its name: it is bit 1 in TensorRT 10, and bit 0 in TensorRT 11 and RTX."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _parse(parser: Any, network: Any, graph: bytes, logger: Any) -> None:
    done = parser.parse(graph)
    errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
    # A parser may report success for a file that it could not read. The network then has no outputs.
    if not done or errors or network.num_outputs == 0:
        reason = one_line(RuntimeError("; ".join(errors))) if errors else logger.take_errors("it has no outputs")
        raise EngineError(f"TensorRT does not read this graph ({reason}); export it again with export/to_trt.py")


def _profile(builder: Any, network: Any, batches: tuple[int, int, int]) -> Any:
    tensor = network.get_input(0)
    if tensor.name != INPUT_NAME:
        raise EngineError(f"the graph reads {tensor.name!r}, expected {INPUT_NAME!r}; export it with export/to_trt.py")
    face = tuple(tensor.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT_NAME, *((batch, *face) for batch in batches))
    return profile


def _set_targets(trt: ModuleType, config: Any, targets: Sequence[str]) -> None:
    """Set the GPUs that a plan of TensorRT for RTX is for."""
    if not targets:
        return
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(map(capability, targets)):
        config.set_compute_capability(trt.ComputeCapability.__members__[target], index)


def _read_timing_cache(config: Any, path: Path | None) -> Any:
    if path is None:
        return None
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    config.set_timing_cache(cache, False)
    return cache


def _write_timing_cache(config: Any, path: Path | None) -> None:
    assert path is not None
    with atomic_path(path) as temporary:
        temporary.write_bytes(bytes(config.get_timing_cache().serialize()))


def _failure(what: str, logger: Any, log: Path | None) -> str:
    return f"{what} ({logger.take_errors()}); " + (f"its log is {log}" if log else "--log FILE keeps its log")


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed inside the block, which it does not end."""
    received: list[int] = []
    with on_signals(received.append, (signal.SIGINT,)):
        yield lambda: bool(received)


def _log_file(path: Path | None) -> Any:
    return nullcontext() if path is None else open(path, "w", encoding="utf-8")
