"""The doctor's finding about each part: that it works, a note, or a problem with its remedy."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from iern.cpp_ext.kernel_binaries import BINARIES, BinariesError, in_order, read_binary, read_manifest
from iern.runtime.backends.providers import GPU_BUILD_REMEDY, PROVIDERS
from iern.runtime.doctor.probes import ProbeResult, run_probe
from iern.runtime.sources.v4l2 import cameras
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.machine import has_nvidia, jetson, nvcc
from iern.runtime.system.opencv import OPENCV_REMEDY
from iern.runtime.system.processor import processor

OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "ort-nightly")
"""The wheels that install the folder `onnxruntime`. Each overwrites the others."""
VIDEO = {"FFMPEG": "FFmpeg", "GStreamer": "GStreamer", "v4l/v4l2": "V4L2"}
"""The name of a video library in OpenCV's build information -> its name in the report."""
CUDA_REMEDIES = {
    0: "check nvidia-smi; restart the machine, or install the driver again",
    100: "check CUDA_VISIBLE_DEVICES and nvidia-smi; start a container with --gpus all (Jetson: --runtime nvidia)",
    803: "the driver was updated while the system was running: restart the machine",
}
"""CUDA's error code -> remedy. 0 stands for the other codes."""
TENSORRTS = {
    "TensorRT": ("tensorrt", "tensorrt_bindings"),
    "TensorRT for RTX": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""Flavour -> its module, and the module of its bindings, which can be installed alone."""

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    state: State
    text: str
    remedy: str = ""
    """What to do. A problem always has one."""
    data: dict[str, Any] = field(default_factory=dict)
    """The details, for programs."""


def python() -> Finding:
    """The version of Python. `__main__` has already refused one that is too old."""
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    return Finding("python", "ok", text, data={"version": platform.python_version(), "path": sys.executable})


def numpy(found: ProbeResult) -> Finding:
    if "error" in found:
        return Finding("numpy", "problem", found["error"], "pip install --force-reinstall 'numpy>=2'", _data(found))
    return Finding("numpy", "ok", found["version"], data=_data(found))


def opencv(found: ProbeResult, numpy: ProbeResult) -> Finding:
    wheels = installed(OPENCVS)
    data = {**_data(found), "wheels": wheels}
    one = "opencv-python, or opencv-python-headless if there is no desktop"
    if found.get("missing"):
        return Finding("opencv", "problem", "is not installed", f"pip install {one}", data)
    if "error" in found:
        remedy = f"pip uninstall {' '.join(wheels) or 'opencv-python'}, then pip install {one}"
        if "error" in numpy:
            remedy = "first fix numpy above"
        elif "cannot open shared object" in found["error"]:
            remedy = OPENCV_REMEDY
        return Finding("opencv", "problem", f"{_listed(wheels)} {found['error']}", remedy, data)
    kinds = ", ".join(f"{title} {'yes' if found[key] else 'no'}" for key, title in VIDEO.items())
    text = (
        f"{found['version']} ({', '.join(wheels) or 'not from a wheel'}), windows {found['windows'] or 'no'}, {kinds}"
    )
    if len(wheels) > 1:
        remedy = f"pip uninstall {' '.join(wheels)}, then pip install {one}"
        return Finding("opencv", "note", f"{text}; these wheels overwrite each other", remedy, data)
    return Finding("opencv", "ok", text, data=data)


def onnxruntime(found: ProbeResult, numpy: ProbeResult) -> Finding:
    wheels = installed(ONNXRUNTIMES)
    data = {**_data(found), "wheels": wheels}
    one = "'iern[gpu]' for an NVIDIA GPU, or 'iern[cpu]'"
    again = f"pip uninstall {' '.join(wheels) or 'onnxruntime'}, then pip install {one}"
    if len(wheels) > 1:
        return Finding("onnxruntime", "problem", f"{_listed(wheels)} overwrite each other", again, data)
    if found.get("missing"):
        return Finding("onnxruntime", "problem", "is not installed", f"pip install {one}", data)
    if "error" in found:
        remedy = "first fix numpy above" if "error" in numpy else again
        return Finding("onnxruntime", "problem", f"{_listed(wheels)} {found['error']}", remedy, data)
    titles = {provider.name: provider.title for provider in PROVIDERS.values()}
    built = ", ".join(titles[name] for name in found["providers"] if name in titles)
    text = f"{found['version']} ({', '.join(wheels) or 'not from a wheel'}), built for {built}"
    return Finding("onnxruntime", "ok", text, data=data)


def gpu(found: ProbeResult, root: Path = Path("/")) -> Finding:
    data = _data(found)
    if found.get("missing"):
        if has_nvidia(root):
            remedy = "install its driver (Ubuntu: sudo ubuntu-drivers install); start a container with --gpus all"
            return Finding("gpu", "note", f"there is an NVIDIA card, but {found['error']}", remedy, data)
        return Finding("gpu", "note", f"none: {found['error']}", data=data)
    if "error" in found:
        remedy = CUDA_REMEDIES.get(found.get("code", 0), CUDA_REMEDIES[0])
        return Finding("gpu", "note", f"none: {found['error']}", remedy, data)
    if not found["gpus"]:
        return Finding("gpu", "note", "none: the NVIDIA driver sees no GPU", CUDA_REMEDIES[100], data)
    gpus = "; ".join(f"{card['name']}, SM {card['sm']}, {card['memory_gib']} GiB" for card in found["gpus"])
    return Finding("gpu", "ok", f"{gpus}; the driver supports CUDA {found['version']}", data=data)


def model(path: Path, opencv: ProbeResult, onnxruntime: ProbeResult, driver: ProbeResult) -> Finding:
    """Where the model runs and why, and how fast it and the detector are."""
    broken = [name for name, found in (("opencv", opencv), ("onnxruntime", onnxruntime)) if "error" in found]
    if broken:
        return Finding("model", "problem", "not checked", f"first fix {' and '.join(broken)} above")
    found = run_probe("model", str(path), timeout=300)
    data = {**_data(found), "path": str(path)}
    if "error" in found:
        text, _, remedy = found["error"].rpartition("; ") if found.get("ours") else (found["error"], "", "")
        remedy = remedy or "install onnxruntime and iern again; if CUDA is the cause, --provider cpu still works"
        return Finding("model", "problem", text, remedy, data)
    where, remedy = _where_it_runs(found, driver)
    text = f"{path.name}: {found['infer_ms']} ms per face, {found['detect_ms']} ms to detect faces; on {where}"
    text += f"; {found['precision']}" if found["precision"] else ""
    return Finding("model", "note" if remedy else "ok", text, remedy, data)


def _where_it_runs(found: ProbeResult, driver: ProbeResult) -> tuple[str, str]:
    """Where the model runs and why, and the remedy if it could run on a GPU."""
    if found["provider"] not in PROVIDERS:  # an engine
        return ", ".join(filter(None, (found["provider"], found["note"]))), ""
    title = PROVIDERS[found["provider"]].title
    if found["provider"] != "cpu":
        return f"{title}, which runs the whole model", ""
    if not found["note"]:
        if driver.get("gpus"):
            return f"{title}: this onnxruntime cannot use the GPU", GPU_BUILD_REMEDY
        return f"{title}, the only provider of this onnxruntime", ""
    if not driver.get("gpus"):
        remedy = "fix the GPU above, or without a GPU: pip uninstall onnxruntime-gpu, pip install 'iern[cpu]'"
        return f"{title}: this onnxruntime is for NVIDIA GPUs, but no GPU works", remedy
    if missing := sorted(set(re.findall(r"(lib[\w.+-]+): cannot open shared object", found["log"]))):
        remedy = "pip install 'onnxruntime-gpu[cuda,cudnn]', or install CUDA and cuDNN of these versions"
        return f"{title}: CUDA does not load without {', '.join(missing)}", remedy
    reason, _, remedy = found["note"].rpartition("; ")
    return f"{title}: {reason}", remedy


def tensorrt() -> Finding:
    """The flavours of TensorRT that can be imported."""
    wheels = {name: version for name, version in installed().items() if name.startswith("tensorrt")}
    texts, broken, data = [], [], {"wheels": wheels}
    for title, modules in TENSORRTS.items():
        found = next((result for name in modules if not (result := _import(name)).get("missing")), None)
        if found is None:
            continue
        data[title] = _data(found)
        if "error" in found:
            broken.append(f"{title}: {found['error']}")
        else:
            texts.append(f"{title} {found['version']}")
    if broken:
        remedy = "install the TensorRT that fits the driver and CUDA, or uninstall it"
        return Finding("tensorrt", "note", "; ".join(texts + broken), remedy, data)
    if wheels and not texts:
        remedy = "pip install tensorrt, or on a Jetson create the environment with --system-site-packages"
        return Finding("tensorrt", "note", f"{_listed(wheels)}, but there is no module to import", remedy, data)
    if not texts:
        return Finding("tensorrt", "note", "not installed; only engines need it", data=data)
    return Finding("tensorrt", "ok", "; ".join(texts), data=data)


def pycuda() -> Finding:
    found = _import("pycuda.driver")
    version = installed(("pycuda",)).get("pycuda", "")
    data = {**_data(found), "version": version}
    if found.get("missing"):
        return Finding("pycuda", "note", "not installed; only engines need it", data=data)
    if "error" in found:
        remedy = (
            "install the NVIDIA driver; after an update of CUDA: pip install --force-reinstall --no-cache-dir pycuda"
        )
        return Finding("pycuda", "note", f"{version or 'not from a wheel'}: {found['error']}", remedy, data)
    return Finding("pycuda", "ok", version or "of unknown version", data=data)


def kernel(driver: ProbeResult, folder: Path = BINARIES) -> Finding:
    """Whether the averaging kernel's binaries are complete, and which of them each GPU uses."""
    try:
        manifest = read_manifest(folder)
        for binary in manifest.binaries:
            read_binary(binary, folder)
    except BinariesError as error:
        text, _, remedy = str(error).rpartition("; ")
        return Finding("kernel", "note", f"{text}; only engines with head kernel need it", remedy)
    gpus = {card["name"]: f"sm_{card['sm'].replace('.', '')}" for card in driver.get("gpus", [])}
    by_gpu = {gpu: [binary.name for binary in in_order(sm, manifest)] for gpu, sm in gpus.items()}
    data = {"binaries": {binary.name: dataclasses.asdict(binary) for binary in manifest.binaries}, "chosen": by_gpu}
    text = f"compiled for {', '.join(b.architecture for b in manifest.binaries if b.is_cubin)}, and as PTX"
    if not gpus:
        return Finding("kernel", "note", f"{text}; there is no GPU to use it", data=data)
    uses = "; ".join(f"{gpu} uses {' or else '.join(names) or 'none of them'}" for gpu, names in by_gpu.items())
    return Finding("kernel", "ok" if all(by_gpu.values()) else "note", f"{text}; {uses}", data=data)


def cuda_compiler(root: Path = Path("/")) -> Finding:
    found = nvcc(root)
    if found is None:
        return Finding("nvcc", "note", "not found; it is needed only to build the kernel for PyTorch")
    path, version = found
    return Finding("nvcc", "ok", f"{version or 'of unknown version'}, {path}", data={"path": path, "version": version})


def camera(root: Path = Path("/")) -> Finding:
    if sys.platform != "linux":
        return Finding("camera", "note", "cameras are listed on Linux only; try --source 0")
    found = cameras(root)
    data = {"cameras": [dataclasses.asdict(camera) for camera in found]}
    text = "; ".join(f"{camera.device} {camera.name}".strip() for camera in found)
    if not found:
        remedy = "connect one (in a container: --device /dev/video0), or use --source with a file or URL"
        return Finding("camera", "note", "none; --demo plays the bundled clip", remedy, data)
    if absent := [camera.device for camera in found if not camera.present]:
        remedy = f"start the container with {' '.join(f'--device {device}' for device in absent)}"
        return Finding("camera", "note", f"{text}; not in /dev: {', '.join(absent)}", remedy, data)
    if forbidden := [camera.device for camera in found if not camera.allowed]:
        remedy = "sudo usermod -aG video $USER, then log in again (in a container: --group-add video)"
        return Finding("camera", "note", f"{text}; this user may not open {', '.join(forbidden)}", remedy, data)
    return Finding("camera", "ok", text, data=data)


def display(opencv: ProbeResult) -> Finding:
    if "error" in opencv:
        return Finding("display", "note", "not checked, because OpenCV opens the window", "first fix opencv above")
    found = run_probe("window")
    if problem := found.get("problem") or found.get("error"):
        remedy = "use --headless with --record, --still or --jsonl; over ssh, connect with -X, or log in at the desktop"
        return Finding("display", "note", f"no window: {problem}", remedy, {"problem": problem})
    name = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or ""
    return Finding("display", "ok", f"a window opens {f'on {name}' if name else ''}".strip(), data={"problem": ""})


def cpu() -> Finding:
    budget, cores, here = cpu_budget(), os.cpu_count() or 1, processor()
    known = ", ".join(here.dot_products or ()) or ("unknown" if here.dot_products is None else "none")
    text = (
        f"this process may use {budget} of {cores} cores (by affinity and cgroup); {here}, 8-bit dot products: {known}"
    )
    return Finding("cpu", "ok", text, data={"budget": budget, "cores": cores, **dataclasses.asdict(here)})


def jetson_board(root: Path = Path("/")) -> Finding | None:
    board = jetson(root)
    if board is None:
        return None
    text = f"L4T {board.release}, power mode {board.power or 'unknown'}"
    if board.power.startswith("MAXN"):
        return Finding("jetson", "ok", text, data=dataclasses.asdict(board))
    remedy = "for full speed: sudo nvpmodel -m 0 (MAXN on most boards; nvpmodel -q shows it), sudo jetson_clocks"
    return Finding("jetson", "note", text, remedy, dataclasses.asdict(board))


def _import(module: str) -> ProbeResult:
    """The result of importing a module, without a new process if the module is missing."""
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        return {"error": f"there is no {module}", "missing": True}
    return run_probe("module", module)


def installed(names: Sequence[str] | None = None) -> dict[str, str]:
    """Distribution -> version, of these names or of all. Names are as pip spells them, in alphabetical order."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        try:
            name = re.sub(r"[-_.]+", "-", str(distribution.metadata["Name"])).lower()
            if names is None or name in names:
                found.setdefault(name, distribution.version)
        except Exception:  # the leftovers of an interrupted uninstallation
            continue
    return dict(sorted(found.items()))


def _listed(wheels: dict[str, str]) -> str:
    return " and ".join(f"{name} {version}" for name, version in wheels.items()) or "no wheel"


def _data(found: ProbeResult) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in ("log", "ours")}
