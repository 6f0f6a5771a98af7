"""The commands that build the shared libraries of `native`. setup.py runs this file, so it imports no package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

SOURCES = Path(__file__).parent

Command = list[str]


def cpu_command(output: Path) -> Command | None:
    """The command for the plain C++ form, with $CXX or c++. None without a compiler."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        return None
    return [compiler, "-std=c++17", "-O3", "-shared", "-fPIC", str(SOURCES / "strata_tail_cpu.cpp"), "-o", str(output)]


def cuda_command(output: Path) -> Command | None:
    """The command for the kernels, for every GPU that nvcc supports. None without nvcc.

    No GPU is needed. nvcc reads more options from NVCC_APPEND_FLAGS.
    """
    compiler = find_nvcc()
    if compiler is None:
        return None
    options = ["-std=c++17", "-O3", "-arch=all", "-shared", "-Xcompiler=-fPIC"]
    return [compiler, *options, str(SOURCES / "strata_tail_cuda.cu"), "-o", str(output)]


def find_nvcc() -> str | None:
    """The path of nvcc: in $CUDA_HOME if that is set, else on PATH or in the folder of NVIDIA's packages."""
    home = os.environ.get("CUDA_HOME")
    folders = [os.path.join(home, "bin")] if home else [None, "/usr/local/cuda/bin"]
    return next((found for folder in folders if (found := shutil.which("nvcc", path=folder))), None)


COMMANDS: dict[str, Callable[[Path], Command | None]] = {
    "strata_tail_cpu": cpu_command,
    "strata_tail_cuda": cuda_command,
}
"""Name of a library in `native` -> its command, given the file to write."""
