"""Graph -> TensorRT plan: one builder for TensorRT 8.6, for 10.3 to 11.x, and for TensorRT for RTX.

Every network is strongly typed: the plan has the precision of the graph, and TensorRT chooses none. TensorRT 8.6 has no
such networks, see `tensorrt8.py`. trtexec reads the plan too. TensorRT for RTX builds for named GPUs and needs none.
TensorRT builds for the GPU that it runs on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from iern.export.engine import tensorrt8
from iern.export.engine.progress_monitor import interruptible, make_monitor
from iern.runtime.artifact import INPUT_NAME
from iern.runtime.backends.trt.engine_file import BACKENDS
from iern.runtime.backends.trt.plan import REMEDIES, find_tensorrt, is_tensorrt_8, make_logger
from iern.runtime.errors import EngineError, one_line
from iern.runtime.session import MAX_BATCH, batch_sizes
from iern.runtime.system.files import atomic_path

logger = logging.getLogger(__name__)

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
    batches: tuple[int, ...] = tuple(batch_sizes(MAX_BATCH))
    """Numbers of faces per call, ascending. The plan has an optimization profile, with its own kernels, for each."""
    workspace: int = 1 << 30
    """Bytes that TensorRT may use while it runs."""
    targets: tuple[str, ...] = ()
    """Compute capabilities such as `sm_89`, for RTX only. Empty: any GPU, compiled when the plan is first loaded."""
    timing_cache: Path | None = None
    """A file of measured kernel times, for TensorRT only. Read, then written again; it makes later builds faster. Times
    of another GPU or TensorRT are not used, and replaced."""
    log: Path | None = None
    """A file for TensorRT's verbose log."""
    any_batch: bool = False
    """Each profile also takes fewer faces, down to where the next smaller one ends, because a server joins requests to
    any number. Without it a profile takes exactly its number, and TensorRT chooses its kernels for that alone."""


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

    Raises EngineError with TensorRT's error if it cannot start or the plan cannot be built. After Ctrl-C, raises
    KeyboardInterrupt when TensorRT has ended its step; TensorRT 8 ends the build first, and reports no steps.
    """
    check_options(options, backend)
    trt = backend.package
    types: dict[str, str] = {}
    if is_tensorrt_8(trt):
        tensorrt8.check_version(trt)
        model = tensorrt8.lowered(graph)
        graph, types = model.SerializeToString(), tensorrt8.value_types(model)
    with _log_file(options.log) as file, interruptible() as stopped:
        log = make_logger(trt, file)
        builder = _make_builder(trt, log)
        network = builder.create_network(_network_flag(trt))
        parser = trt.OnnxParser(network, log)
        _parse(parser, network, graph, log)
        _set_formats(trt, network)
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        # TF32 is on by default. It would compute single-precision matrix products with ten bits of mantissa.
        config.clear_flag(trt.BuilderFlag.TF32)
        if backend.name == "rtx":
            # A CUDA graph cannot record an engine that allocates memory while it runs.
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        monitor = None
        if is_tensorrt_8(trt):
            tensorrt8.hold_types(trt, network, config, types)
        else:
            monitor = make_monitor(trt, on_step or (lambda phase, done, of: None), stopped)
            config.progress_monitor = monitor
        for smaller, batch in zip((0, *options.batches), options.batches, strict=False):
            fewest = smaller + 1 if options.any_batch else batch
            config.add_optimization_profile(_profile(builder, network, fewest, batch))
        _set_targets(trt, config, options.targets)
        cache = None if options.timing_cache is None else _use_timing_cache(config, options.timing_cache, log)
        built = builder.build_serialized_network(network, config)
        if stopped():
            raise KeyboardInterrupt
        if built is None:
            raise EngineError(_failure("TensorRT cannot build this graph", log, options.log))
        plan = bytes(built)
        if cache is not None:
            _write_timing_cache(config, options.timing_cache)
        # Deleted in this order: TensorRT crashes if a configuration outlives its builder.
        del built, cache, config, monitor, parser, network, builder
    return plan


def check_starts(backend: Backend) -> None:
    """Raise EngineError with TensorRT's reason if it does not start on this machine."""
    _make_builder(backend.package, make_logger(backend.package))


def capability(text: str) -> str:
    """`sm_89`, `SM89` or `8.9` -> `SM89`, TensorRT's name. Raises EngineError for anything else."""
    found = re.fullmatch(r"(?:sm_?)?(\d{2,3})|(\d{1,2})\.(\d)", text.lower())
    if not found:
        raise EngineError(f"{text!r} is no compute capability; expected one such as sm_89")
    return f"SM{found[1] or found[2] + found[3]}"


def check_options(options: BuildOptions, backend: Backend) -> None:
    """Raise EngineError if the backend does not support the options."""
    if not options.batches or options.batches[0] < 1 or list(options.batches) != sorted(set(options.batches)):
        raise EngineError(f"batches {options.batches}: expected numbers of faces from 1 on, ascending, each once")
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


def _make_builder(trt: ModuleType, log: Any) -> Any:
    try:
        return trt.Builder(log)
    except Exception as error:  # where CUDA does not start it is a TypeError, and the reason is in the log
        raise EngineError(
            f"TensorRT cannot start ({one_line(error)}; {log.take_errors()}); install a driver that is new enough for "
            "TensorRT's CUDA, or a TensorRT for this driver's; python -m iern.runtime.doctor shows both"
        ) from error


def _network_flag(trt: ModuleType) -> int:
    """Strongly typed, by its name: it is bit 1 in TensorRT 10, and bit 0 in TensorRT 11 and RTX.

    TensorRT 8 has other flags.
    """
    if is_tensorrt_8(trt):
        return tensorrt8.network_flag(trt)
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _parse(parser: Any, network: Any, graph: bytes, log: Any) -> None:
    done = parser.parse(graph)
    errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
    # A parser may report success for a file that it could not read. The network then has no outputs.
    if not done or errors or network.num_outputs == 0:
        reason = one_line(RuntimeError("; ".join(errors))) if errors else log.take_errors("it has no outputs")
        raise EngineError(f"TensorRT does not read this graph ({reason}); export it again with export/to_trt.py")


def _set_formats(trt: ModuleType, network: Any) -> None:
    """Let inputs and outputs be dense arrays, as the session and the kernel use them. TensorRT may choose others."""
    for tensor in (network.get_input(0), *map(network.get_output, range(network.num_outputs))):
        tensor.allowed_formats = 1 << int(trt.TensorFormat.LINEAR)


def _profile(builder: Any, network: Any, fewest: int, most: int) -> Any:
    """The optimization profile for calls with `fewest` to `most` faces, and best with `most`."""
    tensor = network.get_input(0)
    if tensor.name != INPUT_NAME:
        raise EngineError(f"the graph reads {tensor.name!r}, expected {INPUT_NAME!r}; export it with export/to_trt.py")
    face = tuple(tensor.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT_NAME, (fewest, *face), (most, *face), (most, *face))  # smallest, usual, largest
    return profile


def _set_targets(trt: ModuleType, config: Any, targets: Sequence[str]) -> None:
    """Set the GPUs that a plan of TensorRT for RTX is for."""
    if not targets:
        return
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(map(capability, targets)):
        config.set_compute_capability(trt.ComputeCapability.__members__[target], index)


def _use_timing_cache(config: Any, path: Path, log: Any) -> Any:
    """Give TensorRT the times of a file, or none if it refuses them, as those of another GPU or version."""
    content = path.read_bytes() if path.is_file() else b""
    for times in dict.fromkeys((content, b"")):
        try:
            cache = config.create_timing_cache(times)
        except TypeError:  # a null pointer from TensorRT
            cache = None
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
        if times:
            reason = log.take_errors("they are of another GPU or TensorRT")
            logger.warning("%s: TensorRT does not use these times, and measures again (%s)", path, reason)
    return None


def _write_timing_cache(config: Any, path: Path | None) -> None:
    assert path is not None
    with atomic_path(path) as temporary:
        temporary.write_bytes(bytes(config.get_timing_cache().serialize()))


def _failure(what: str, log: Any, file: Path | None) -> str:
    return f"{what} ({log.take_errors()}); " + (f"its log is {file}" if file else "--log FILE keeps its log")


def _log_file(path: Path | None) -> Any:
    return nullcontext() if path is None else open(path, "w", encoding="utf-8")
