"""Builds the real pycuda, the double of the driver under it, and the kernels for the CPU, once per checkout."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from doubles.gpu.kernel_on_cpu import SHIM
from iern.cpp_ext.compile_native import find_nvcc
from repository import ROOT

VERSION = "2026.1"
CACHE = ROOT / "build" / "tests"
SOURCES = ROOT / "tests" / "doubles" / "gpu" / "driver"
DRIVER = [str(SOURCES / name) for name in ("libcuda.cpp", "launches.cpp")]
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror")


def environment() -> dict[str, str]:
    """Return the environment of a process with the double of libcuda and the real pycuda, or skip the test."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed, and pycuda comes as source")
    headers = cuda_headers()
    if headers is None:
        pytest.skip("CUDA's headers are not installed; pycuda needs cuda.h and cudaProfiler.h")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        pytest.skip("Python's headers are not installed; pycuda needs them")
    pycuda = _cached(f"pycuda-{VERSION}-{sys.implementation.cache_tag}", lambda target: _build_pycuda(target, headers))
    double = _cached(f"double-{_digest(pycuda)}", lambda target: _build_double(target, headers, pycuda))
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(double),
        "DOUBLE_KERNELS": str(double / "kernels.so"),
        "PYTHONPATH": os.pathsep.join([str(pycuda), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]),
    }


def cuda_headers() -> Path | None:
    """Find the folder of the headers of the CUDA toolkit."""
    nvcc = find_nvcc()
    found = [Path(nvcc).resolve().parents[1] / "include"] if nvcc else []
    found += [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"]
    spec = importlib.util.find_spec("nvidia")  # pip's packages of CUDA
    for place in spec.submodule_search_locations or () if spec else ():
        found += sorted(Path(place).glob("*/include"))
    return next((f for f in found if (f / "cuda.h").is_file() and (f / "cudaProfiler.h").is_file()), None)


def _build_pycuda(target: Path, headers: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        download = [*pip, "download", "--no-deps", "--no-binary", "pycuda", f"pycuda=={VERSION}", "--dest", name]
        result = subprocess.run(download, capture_output=True, encoding="utf-8", check=False)
        if result.returncode:
            pytest.skip(f"pycuda cannot be downloaded: {(result.stderr.strip() or 'no reason given').splitlines()[-1]}")
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        # The linker only records a library that defines a symbol in use.
        (folder / "stub.c").write_text("int cuInit(unsigned flags) { return (int)flags; }\n", encoding="utf-8")
        stub = ["g++", "-x", "c", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "stub.c", "-o", "libcuda.so"]
        subprocess.run(stub, cwd=folder, check=True)
        source = folder / f"pycuda-{VERSION}"
        settings = {
            "CUDA_INC_DIR": [str(headers)],
            "CUDADRV_LIB_DIR": [name],
            "CUDA_ENABLE_CURAND": False,
            "CXXFLAGS": ["-O0", "-g0", "-w"],
        }
        lines = [f"{key} = {value!r}\n" for key, value in settings.items()]
        (source / "siteconf.py").write_text("".join(lines), encoding="utf-8")
        _run([*pip, "install", "--no-deps", "--target", str(target), str(source)])


def _build_double(target: Path, headers: Path, pycuda: Path) -> None:
    double, absent = target / "libcuda.so.1", target / "absent.c"
    (driver,) = (pycuda / "pycuda").glob("_driver*.so")
    wanted = {name for name in _symbols(driver, "--undefined-only") if name.startswith("cu")}
    compiled = ["g++", *FLAGS, "-Wno-deprecated-declarations", "-isystem", str(headers), *DRIVER]
    link = ["-Wl,-soname,libcuda.so.1", "-ldl", "-o", str(double)]
    _run([*compiled, *link])
    # The functions that pycuda refers to and never calls here. 801 is CUDA_ERROR_NOT_SUPPORTED.
    missing = sorted(wanted - _symbols(double, "--defined-only"))
    text = "".join(f'extern "C" int {name}() {{ return 801; }}\n' for name in missing)
    absent.write_text(text, encoding="utf-8")
    _run([*compiled, "-x", "c++", str(absent), *link])
    folders = (f"-I{SHIM}", f"-I{ROOT / 'cpp_ext'}")
    kernels = [*FLAGS, "-Wno-unknown-pragmas", *folders, str(SOURCES / "kernels.cpp"), "-o", str(target / "kernels.so")]
    _run(["g++", *kernels])


def _symbols(library: Path, which: str) -> set[str]:
    listing = subprocess.run(["nm", "-D", which, str(library)], capture_output=True, encoding="utf-8", check=True)
    return {line.split()[-1] for line in listing.stdout.splitlines()}


def _digest(pycuda: Path) -> str:
    """Return a hash of all sources of the double."""
    folders = (SOURCES, SHIM, ROOT / "cpp_ext")
    files = sorted(path for folder in folders for path in folder.iterdir() if path.suffix in (".cpp", ".cu", ".h"))
    content = b"".join(path.read_bytes() for path in files) + str(pycuda).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _cached(name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of that name. The first process makes it, and the others wait."""
    folder = CACHE / name
    with _lock(CACHE / f"{name}.lock"):
        if not folder.is_dir():
            unfinished = CACHE / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    assert result.returncode == 0, f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
