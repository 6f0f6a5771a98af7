"""Program: `report_calls.py FOLDER`, with TensorRT's real bindings on PYTHONPATH and stubs.c on LD_LIBRARY_PATH.

It builds a plan with export/engine/plan_builder.py, makes the calls that run one, and prints as JSON what the bindings
gave to the stubs. The bindings convert arguments and results. Behind them there is no TensorRT, see learnt_calls.py.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import threading
from ctypes import c_bool, c_char_p, c_int32
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from fakes import Fakes, virtual
from learnt_calls import INPUT_SHAPE, PLAN, TENSORS, learn_builder, learn_runtime

from iern.export.engine.plan_builder import Backend, BuildOptions, build_plan, check_starts, load_backend
from iern.runtime.backends.trt.plan import make_logger
from iern.runtime.errors import EngineError

GRAPH = b"a graph\0in ONNX"
OPTIONS = BuildOptions(batches=(2, 3, 5), workspace=3 << 30)
PHASE_START, STEP_COMPLETE, PHASE_FINISH = 4, 5, 6
"""The places of these functions in the table of IProgressMonitor, in every version."""
ADDRESS, STREAM = 0x7F0012345678, 0x7F0087654321
"""Addresses of memory and of a CUDA stream. Nothing reads them."""
LOG = {"10": 0, "11": 4}
"""The place of `log` in the table of ILogger, by TensorRT's major version."""
ERROR, WARNING, INFO = 1, 2, 3

Report = dict[str, Any]


def main(folder: Path) -> None:
    """Run all scenarios and print the report."""
    # An installed TensorRT must not be imported: only the bindings under test.
    sys.modules |= {"tensorrt": None, "tensorrt_libs": None}
    name, trt = load_backend("tensorrt")
    fakes = Fakes(f"libnvinfer.so.{major(trt)}")
    learn_builder(trt, fakes)
    report = {"backend": name, "package": trt.__name__, "version": trt.__version__, "members": members(trt)}
    report["tf32"], report["linear"] = int(trt.BuilderFlag.TF32), int(trt.TensorFormat.LINEAR)
    learn_runtime(trt, fakes)
    for scenario in SCENARIOS:
        fakes.forget_calls()
        as_learnt = dict(fakes.results)
        with fakes.checked():
            report[scenario.__name__] = scenario(trt, fakes, folder)
        fakes.results = as_learnt
    print(json.dumps(report))


def members(trt: ModuleType) -> dict[str, list[str]]:
    """Return class -> its members."""
    return {name: dir(value) for name, value in vars(trt).items() if isinstance(value, type)}


def a_build(trt: ModuleType, fakes: Fakes, folder: Path) -> Report:
    """Build with every option, successfully."""
    times, log, steps = folder / "times", folder / "log.txt", []
    times.write_bytes(b"old\0times")
    fakes.results["builder.build"] = lambda: building(trt, fakes)
    options = replace(OPTIONS, timing_cache=times, log=log)
    plan = build_plan(GRAPH, Backend("tensorrt", trt), options, lambda *step: steps.append(step))
    return {
        "calls": list(fakes.calls),
        "arrived": dict(fakes.arrived),
        "address": {name: fakes[name].address for name in ("config", "network", "profile", "cache")},
        "plan": plan.decode("latin-1"),
        "times": times.read_bytes().decode("latin-1"),
        "steps": steps,
        "log": log.read_text(encoding="utf-8").splitlines(),
    }


def a_second_build(trt: ModuleType, fakes: Fakes, folder: Path) -> Report:
    """Build with a timing cache that does not exist yet, and without a log."""
    path = folder / "new times"
    build_plan(GRAPH, Backend("tensorrt", trt), replace(OPTIONS, timing_cache=path))
    return {"read": fakes.arrived["config.create_cache"], "times": path.read_bytes().decode("latin-1")}


def refused_times(trt: ModuleType, fakes: Fakes, folder: Path) -> Report:
    """Let TensorRT refuse a timing cache, first one that it reads, as of another GPU, then one that it cannot read."""
    path, report = folder / "their times", {}
    for name, method, accepted in (("set", "config.set_cache", 1), ("created", "config.create_cache", fakes["cache"])):
        fakes.forget_calls()
        as_before = dict(fakes.results)
        fakes.results[method] = iter((0, accepted)).__next__
        path.write_bytes(b"their times")
        lines: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record, lines=lines: lines.append(record.getMessage())
        logging.getLogger().addHandler(handler)
        plan = build_plan(GRAPH, Backend("tensorrt", trt), replace(OPTIONS, timing_cache=path))
        logging.getLogger().removeHandler(handler)
        fakes.results = as_before
        report[name] = {
            "read": fakes.arrived["config.create_cache"],
            "built": plan == PLAN,
            "times": path.read_bytes().decode("latin-1"),
            "lines": lines,
        }
    return report


def a_start_that_fails(trt: ModuleType, fakes: Fakes, folder: Path) -> Report:
    """Let TensorRT give no builder, and the reason as a warning, as it does where CUDA does not start."""

    def create() -> int:
        log_line(trt, fakes, WARNING, b"CUDA initialization failure with error: 35")
        return 0

    fakes.results["create_builder"] = create
    report = {"error": refusal(trt)}
    fakes.forget_calls()
    try:
        check_starts(Backend("tensorrt", trt))
    except EngineError as error:
        report["checked"] = str(error)
    return report


def a_refused_graph(trt: ModuleType, fakes: Fakes, folder: Path) -> Report:
    """Let the parser refuse a graph, and then accept one without outputs."""
    fakes.results |= {"parser.parse": 0, "parser.num_errors": 1}
    report = {"error": refusal(trt), "built": "builder.build" in fakes.calls}
    fakes.results |= {"parser.parse": 1, "parser.num_errors": 0, "network.num_outputs": 0}
    return report | {"error_without_outputs": refusal(trt)}


def a_failed_build(trt: ModuleType, fakes: Fakes, folder: Path) -> Report:
    """Let TensorRT log an error and return no plan."""

    def build() -> int:
        log_line(trt, fakes, ERROR, b"no tactic for it")
        return 0

    fakes.results["builder.build"] = build
    return {"error": refusal(trt), "calls": list(fakes.calls)}


def an_interrupted_build(trt: ModuleType, fakes: Fakes, folder: Path) -> Report:
    """Send Ctrl-C when the first of two steps ends."""
    steps = []

    def build() -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return building(trt, fakes)

    fakes.results["builder.build"] = build
    try:
        build_plan(GRAPH, Backend("tensorrt", trt), OPTIONS, lambda phase, done, of: steps.append(done))
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    return {"interrupted": interrupted, "steps": steps, "calls": list(fakes.calls)}


def a_build_interrupted_in_another_thread(trt: ModuleType, fakes: Fakes, folder: Path) -> Report:
    """Send Ctrl-C while the main thread waits in C and another thread calls the monitor."""
    steps: list[int] = []
    system = ctypes.CDLL(None)
    mutex, condition = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)  # zeros are ready for use

    def build() -> Any:
        returned = []

        def work() -> None:
            system.pthread_mutex_lock(mutex)  # once the main thread waits
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            returned.append(building(trt, fakes))
            system.pthread_cond_signal(condition)
            system.pthread_mutex_unlock(mutex)

        thread = threading.Thread(target=work)
        system.pthread_mutex_lock(mutex)
        thread.start()
        system.pthread_cond_wait(condition, mutex)
        system.pthread_mutex_unlock(mutex)
        thread.join()
        return returned[0]

    fakes.results["builder.build"] = build
    before = signal.set_wakeup_fd(-1)
    try:
        build_plan(GRAPH, Backend("tensorrt", trt), OPTIONS, lambda phase, done, of: steps.append(done))
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    return {"interrupted": interrupted, "steps": steps, "descriptor": [before, signal.set_wakeup_fd(before)]}


def a_wrong_call(trt: ModuleType, fakes: Fakes, folder: Path) -> Report:
    """Check that arguments of a wrong type never arrive."""
    builder = trt.Builder(make_logger(trt, None))
    try:
        builder.create_network("strongly typed")
    except TypeError:
        return {"refused": "builder.create_network" not in fakes.calls}
    return {"refused": False}


def a_run(trt: ModuleType, fakes: Fakes, folder: Path) -> Report:
    """Make the calls that run a plan."""
    fakes.results["engine.get_tensor_name"] = iter(TENSORS).__next__
    runtime = trt.Runtime(make_logger(trt, None))
    engine = runtime.deserialize_cuda_engine(PLAN)
    context = engine.create_execution_context()
    came_back = {
        "names": [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)],
        "is_read": engine.get_tensor_mode("image") == trt.TensorIOMode.INPUT,
        "is_uint8": engine.get_tensor_dtype("image") == trt.DataType.UINT8,
        "is_linear": engine.get_tensor_format("image") == trt.TensorFormat.LINEAR,
        "shape": list(engine.get_tensor_shape("image")),
        "profile_is_set": context.set_optimization_profile_async(3, STREAM),
        "shape_is_set": context.set_input_shape("image", (2, *INPUT_SHAPE[1:])),
        "unspecified": context.infer_shapes(),
        "address_is_set": context.set_tensor_address("image", ADDRESS),
        "runs": context.execute_async_v3(STREAM),
    }
    return {"came_back": came_back, "arrived": dict(fakes.arrived)}


def building(trt: ModuleType, fakes: Fakes) -> Any:
    """Make the callbacks of TensorRT during a build: two steps of one phase, and a line of its log."""
    ((monitor,),) = fakes.arrived["config.monitor"]
    start = virtual(monitor, PHASE_START, None, c_char_p, c_char_p, c_int32)
    step = virtual(monitor, STEP_COMPLETE, c_bool, c_char_p, c_int32)
    finish = virtual(monitor, PHASE_FINISH, None, c_char_p)
    start(b"tactics", None, 2)
    goes_on = step(b"tactics", 0) and step(b"tactics", 1)
    finish(b"tactics")
    log_line(trt, fakes, INFO, "two tactics für image".encode())
    return fakes["plan"] if goes_on else 0


def log_line(trt: ModuleType, fakes: Fakes, severity: int, line: bytes) -> None:
    """Log a line with the logger of the builder."""
    ((logger, _),) = fakes.arrived["create_builder"]
    virtual(logger, LOG[major(trt)], None, c_int32, c_char_p)(severity, line)


def major(trt: ModuleType) -> str:
    return trt.__version__.split(".")[0]


def refusal(trt: ModuleType) -> str | None:
    try:
        build_plan(GRAPH, Backend("tensorrt", trt), OPTIONS)
    except EngineError as error:
        return str(error)
    return None


SCENARIOS = (
    a_build,
    a_second_build,
    refused_times,
    a_start_that_fails,
    a_refused_graph,
    a_failed_build,
    an_interrupted_build,
    a_build_interrupted_in_another_thread,
    a_wrong_call,
    a_run,
)

if __name__ == "__main__":
    main(Path(sys.argv[1]))
