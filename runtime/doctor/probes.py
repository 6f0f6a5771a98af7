"""Probes of other libraries. Each runs in a process of its own, because a library may be missing, hang, print text of
its own, or crash. The result of the probe is then how the library failed.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from iern.runtime.errors import IernError, one_line

ProbeResult = dict[str, Any]
"""JSON. `error`: what failed, in words. `missing`: whether there is nothing to import. `ours`: whether the words are
those of an IernError. `log`: the end of stderr."""

MARK = "probe result: "
"""Begins the line with the result, because the library may print other lines."""

CALLS = 5
"""Calls of which the median time is taken."""


def run_probe(name: str, *arguments: str, timeout: float = 60) -> ProbeResult:
    """Run the probe of that name (see PROBES) in a new process. Never raises for what happens there."""
    program = "from iern.runtime.doctor.probes import print_result; print_result()"
    command = [sys.executable, "-c", program, name, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"did not finish within {timeout:g} s"}
    except OSError as error:
        return {"error": f"could not be checked: no process starts ({error})"}
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            result: ProbeResult = json.loads(line.removeprefix(MARK))
            return {**result, "log": done.stderr[-2000:]}
    return {"error": _end(done.returncode, done.stderr)}


def print_result() -> None:
    """In the new process: run the probe that the command line names, and print its result."""
    name, *arguments = sys.argv[1:]
    package = (arguments[0] if name == "module" else name).partition(".")[0]
    try:
        result = PROBES[name](*arguments)
    except ModuleNotFoundError as error:
        result = {"error": f"cannot be imported ({one_line(error)})", "missing": error.name == package}
    except IernError as error:
        result = {"error": str(error), "ours": True}
    except Exception as error:  # any exception of another library is a result
        result = {"error": f"{type(error).__name__}: {one_line(error)}"}
    print(f"\n{MARK}{json.dumps(result)}", flush=True)
    os._exit(0)  # some libraries crash when the process ends


def cv2() -> ProbeResult:
    """OpenCV: its version, its window system, and the libraries that it can read video with."""
    module = importlib.import_module("cv2")
    build = module.getBuildInformation()
    return {
        "version": module.__version__,
        "windows": module.currentUIFramework(),
        **{name: _in_build(build, name) for name in ("FFMPEG", "GStreamer", "v4l/v4l2")},
    }


def onnxruntime() -> ProbeResult:
    """onnxruntime: its version, and the providers that it was built for."""
    module = importlib.import_module("onnxruntime")
    return {"version": module.__version__, "providers": module.get_available_providers()}


def cuda() -> ProbeResult:
    """The NVIDIA driver: the newest CUDA that it supports, and its GPUs."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError as error:
        if "No such file" in str(error):
            return {"error": "there is no NVIDIA driver (no libcuda.so.1)", "missing": True}
        return {"error": f"the NVIDIA driver cannot be loaded ({one_line(error)})"}
    number = ctypes.c_int()
    if code := driver.cuInit(0):
        return {"error": f"the NVIDIA driver does not start ({_cuda_error(driver, code)})", "code": code}
    driver.cuDriverGetVersion(ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    driver.cuDeviceGetCount(ctypes.byref(number))
    return {"version": version, "gpus": [_gpu(driver, index) for index in range(number.value)]}


def module(name: str) -> ProbeResult:
    """Any module: whether it can be imported, and the version of its package."""
    importlib.import_module(name)
    return {"version": str(getattr(importlib.import_module(name.partition(".")[0]), "__version__", ""))}


def window() -> ProbeResult:
    """The window: why none can be shown. Empty if one can."""
    from iern.runtime.app.window import window_problem

    return {"problem": window_problem()}


def model(path: str) -> ProbeResult:
    """The detector and the model at `path`: whether they run, where, and how fast."""
    import numpy as np

    from iern.runtime.backends.onnx import open_session
    from iern.runtime.faces.detector import FaceDetector
    from iern.runtime.system.opencv import limit_opencv

    limit_opencv()
    detector, frame = FaceDetector(), np.zeros((480, 640, 3), np.uint8)
    with open_session(path, precision="auto") as session:
        face = np.random.default_rng(0).integers(0, 256, (1, *session.artifact.input.shape), np.uint8)
        total = float(session(face).probabilities.sum())
        if abs(total - 1) > 1e-3:
            raise IernError(f"{path}: its probabilities sum to {total:g}, not to 1; export the checkpoint again")
        return {
            "provider": session.provider,
            "note": session.note,
            "precision": session.precision_note,
            "expressions": list(session.artifact.expressions),
            "infer_ms": _median_ms(lambda: session(face)),
            "detect_ms": _median_ms(lambda: detector(frame)),
        }


PROBES: dict[str, Callable[..., ProbeResult]] = {
    probe.__name__: probe for probe in (cv2, onnxruntime, cuda, module, window, model)
}


def _median_ms(call: Callable[[], object]) -> float:
    call()  # the first call allocates
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times), 2)


def _in_build(information: str, name: str) -> bool:
    """Whether OpenCV's build information has a YES after the name."""
    return re.search(rf"^\s*{re.escape(name)}:\s+YES", information, re.MULTILINE) is not None


def _gpu(driver: ctypes.CDLL, index: int) -> ProbeResult:
    device, major, minor, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # COMPUTE_CAPABILITY_MAJOR
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    return {
        "name": name.value.decode("utf-8", "replace"),
        "sm": f"{major.value}.{minor.value}",
        "memory_gib": round(size.value / 2**30, 1),
    }


def _cuda_error(driver: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    if driver.cuGetErrorString(code, ctypes.byref(text)) or not text.value:
        return f"error {code}"
    return f"error {code}, {text.value.decode('utf-8', 'replace')}"


def _end(status: int, log: str) -> str:
    """How a process without a result ended."""
    if status < 0:
        return f"crashes its process ({signal.Signals(-status).name})"
    lines = log.strip().splitlines()
    return f"ends its process with status {status}" + (f" ({lines[-1][:200]})" if lines else "")
