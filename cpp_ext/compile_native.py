"""The commands that build the shared libraries of `native`. Needs nothing but a compiler: setup.py runs this file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

SOURCES = Path(__file__).parent

Command = list[str]


def cpu_command(output: Path) -> Command | None:
    """The plain twin, by $CXX or c++; None where there is neither."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        return None
    return [compiler, "-std=c++17", "-O3", "-shared", "-fPIC", str(SOURCES / "strata_tail_cpu.cpp"), "-o", str(output)]


def cuda_command(output: Path) -> Command | None:
    """The kernels for every GPU that nvcc knows, so that none is needed here; None where nvcc is not found.

    nvcc itself takes more options from NVCC_APPEND_FLAGS.
    """
    compiler = find_nvcc()
    if compiler is None:
        return None
    options = ["-std=c++17", "-O3", "-arch=all", "-shared", "-Xcompiler=-fPIC"]
    return [compiler, *options, str(SOURCES / "strata_tail_cuda.cu"), "-o", str(output)]


def find_nvcc() -> str | None:
    """In $CUDA_HOME where that is set, else on the path or where NVIDIA's packages put it."""
    home = os.environ.get("CUDA_HOME")
    folders = [os.path.join(home, "bin")] if home else [None, "/usr/local/cuda/bin"]
    return next((found for folder in folders if (found := shutil.which("nvcc", path=folder))), None)


COMMANDS: dict[str, Callable[[Path], Command | None]] = {
    "strata_tail_cpu": cpu_command,
    "strata_tail_cuda": cuda_command,
}
"""Library name as in `native` -> its command, given the file to write."""
