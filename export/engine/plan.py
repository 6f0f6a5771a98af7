"""Graph -> TensorRT plan: one builder for TensorRT 10.3 to 11.x and for TensorRT for RTX.

Every network is strongly typed: the precision is that of the graph, and nothing is chosen here. The plan is TensorRT's
own, as trtexec reads it. TensorRT for RTX builds for named GPUs on a machine without any; TensorRT builds for the GPU
that it runs on.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from iern.export.engine.monitor import make_monitor
from iern.runtime.artifact import INPUT_NAME
from iern.runtime.backends.trt.engine_file import BACKENDS
from iern.runtime.backends.trt.plan import REMEDIES, find_tensorrt, make_logger
from iern.runtime.errors import EngineError, one_line
from iern.runtime.system.files import atomic_path

OnStep = Callable[[str, int, int], None]
"""Phase, steps done, steps in all."""


@dataclass(frozen=True)
class BuildOptions:
    """How a plan is built; the defaults serve a webcam."""

    batches: tuple[int, int, int] = (1, 4, 16)
    """Smallest, usual and largest number of faces a call; the plan is fastest at the second."""
    workspace: int = 1 << 30
    """Bytes that TensorRT may use while it runs."""
    targets: tuple[str, ...] = ()
    """Compute capabilities, `sm_89`; RTX only, none: any that it knows, compiled when the plan is first loaded."""
    timing_cache: Path | None = None
    """File of measured kernel times, read and written again; makes later builds faster; TensorRT only."""
    log: Path | None = None
    """File for TensorRT's verbose log."""


def load_backend(name: str = "auto") -> tuple[str, ModuleType]:
    """`tensorrt`, `rtx`, or `auto`, the first that is installed -> its name and its package.

    Raises EngineError where it is not installed or cannot be imported.
    """
    reasons, remedies = [], []
    for backend in BACKENDS if name == "auto" else (name,):
        package, broken = find_tensorrt(backend)
        if package is not None:
            return backend, package
        reasons += broken
        remedies.append(REMEDIES[backend])
    wanted = BACKENDS.get(name, "TensorRT")
    if reasons:
        raise EngineError(f"{wanted} is installed but cannot be imported ({'; '.join(reasons)}); install it again")
    raise EngineError(f"{wanted} is not installed; {', or '.join(remedies)}")


def build_plan(
    graph: bytes, name: str, trt: ModuleType, options: BuildOptions = BuildOptions(), on_step: OnStep | None = None
) -> bytes:
    """An exported graph -> the plan, for the package `trt` of the backend `name`.

    Raises EngineError, with what TensorRT said, where it cannot be built, and KeyboardInterrupt on Ctrl-C, at the end
    of TensorRT's step.
    """
    check_options(options, name, trt)
    with _log_file(options.log) as file, _interruptible() as stopped:
        logger = make_logger(trt, file)
        builder = trt.Builder(logger)
        network = builder.create_network(_strongly_typed(trt))
        parser = trt.OnnxParser(network, logger)
        _parse(parser, network, graph, logger)
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        # Ten bits of mantissa in matrix products, on by default, would pass for single precision.
        config.clear_flag(trt.BuilderFlag.TF32)
        if name == "rtx":
            # An engine that allocates by itself while it runs cannot be recorded in a CUDA graph.
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        monitor = make_monitor(trt, on_step or (lambda phase, done, of: None), stopped)
        config.progress_monitor = monitor
        config.add_optimization_profile(_profile(builder, network, options.batches))
        _aim(trt, config, options.targets)
        cache = _read_timing_cache(config, options.timing_cache)
        built = builder.build_serialized_network(network, config)
        if stopped():
            raise KeyboardInterrupt
        if built is None:
            raise EngineError(_failure("TensorRT cannot build this graph", logger, options.log))
        plan = bytes(built)
        if cache is not None:
            _write_timing_cache(config, options.timing_cache)
        # Named, since TensorRT crashes where a configuration outlives its builder.
        del built, cache, config, monitor, parser, network, builder
    return plan


def capability(text: str) -> str:
    """`sm_89`, `SM89` or `8.9` -> `SM89`, TensorRT's name. Raises EngineError for anything else."""
    found = re.fullmatch(r"(?:sm_?)?(\d{2,3})|(\d{1,2})\.(\d)", text.lower())
    if not found:
        raise EngineError(f"{text!r} is no compute capability; expected one such as sm_89")
    return f"SM{found[1] or found[2] + found[3]}"


def check_options(options: BuildOptions, name: str, trt: ModuleType) -> None:
    """Raises EngineError for what the backend `name`, whose package is `trt`, cannot do."""
    smallest, usual, largest = options.batches
    if not 1 <= smallest <= usual <= largest:
        raise EngineError(f"batches {options.batches}: expected 1 <= smallest <= usual <= largest")
    if options.timing_cache is not None and name == "rtx":
        raise EngineError("TensorRT for RTX measures nothing while it builds, so it has no timing cache; leave it out")
    if options.targets and name != "rtx":
        raise EngineError(
            "TensorRT builds for the GPU that it runs on, so --compute-capability needs --backend rtx; "
            "leave it out, and build on the machine that will run the engine"
        )
    for target in map(capability, options.targets):
        known = [key for key in trt.ComputeCapability.__members__ if key.startswith("SM")]
        if target not in known:
            names = ", ".join(f"sm_{key[2:]}" for key in known)
            raise EngineError(f"TensorRT for RTX does not build for sm_{target[2:]}; it knows {names}")


def _strongly_typed(trt: ModuleType) -> int:
    """Bit 1 of TensorRT 10's flags, bit 0 of 11's and RTX's, so it is asked for by name."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _parse(parser: Any, network: Any, graph: bytes, logger: Any) -> None:
    done = parser.parse(graph)
    errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
    # A parser that says yes to a file it did not understand leaves a network without outputs.
    if not done or errors or network.num_outputs == 0:
        said = one_line(RuntimeError("; ".join(errors))) if errors else logger.told("it has no outputs")
        raise EngineError(f"TensorRT does not read this graph ({said}); export it again with export/to_trt.py")


def _profile(builder: Any, network: Any, batches: tuple[int, int, int]) -> Any:
    tensor = network.get_input(0)
    if tensor.name != INPUT_NAME:
        raise EngineError(f"the graph reads {tensor.name!r}, expected {INPUT_NAME!r}; export it with export/to_trt.py")
    face = tuple(tensor.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT_NAME, *((batch, *face) for batch in batches))
    return profile


def _aim(trt: ModuleType, config: Any, targets: Sequence[str]) -> None:
    """Which GPUs a plan of TensorRT for RTX is for."""
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
    return f"{what} ({logger.told()}); " + (f"its log is {log}" if log else "--log FILE keeps its log")


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C raises a flag that the yielded function reads, until the end of the block."""
    raised: list[int] = []
    try:
        before = signal.signal(signal.SIGINT, lambda number, frame: raised.append(number))
    except ValueError:  # not in the main thread, where Python takes no signals
        yield lambda: False
        return
    try:
        yield lambda: bool(raised)
    finally:
        signal.signal(signal.SIGINT, before)


def _log_file(path: Path | None) -> Any:
    return nullcontext() if path is None else open(path, "w", encoding="utf-8")
