"""Compiles strata_tail.cu for the CPU with tests/doubles/gpu/cuda_on_cpu, and runs it on a case."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.tail_cases import TailCase
from repository import ROOT

KERNEL = ROOT / "cpp_ext" / "strata_tail.cu"
SHIM = ROOT / "tests" / "doubles" / "gpu" / "cuda_on_cpu"
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fsanitize-sections=shared_memory")

COMPILER = shutil.which("g++")
NO_COMPILER = "g++ is not installed; the shim needs it, and glibc's ucontext"


def compile_kernel(output: Path, *options: str, source: Path = KERNEL) -> Path:
    """Compile a program that runs the kernels of `source`. In our own kernel, warnings are errors."""
    warnings = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas") if source == KERNEL else ("-w",)
    folders = (f"-I{SHIM}", f"-I{KERNEL.parent}", f'-DKERNEL_SOURCE="{source}"')
    command = [COMPILER, "-std=c++17", "-O1", *options, *warnings, *folders, SHIM / "run_tail.cpp", "-o", output]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
    return output


def run_kernel(program: Path, case: TailCase, seed: int = 0) -> tuple[NDArray, NDArray, NDArray]:
    """Run the case -> probabilities, logits, stratum logits. RuntimeError if schedules `seed` and `seed + 1` differ."""
    _, channels, height, width = case.u.shape
    expressions, windowed, half = len(case.bias), case.h is not None, case.u.dtype == np.float16
    sizes = (case.faces, case.strata, channels, height, width, expressions)
    header = np.array([*sizes, case.answer == "probabilities", windowed, half, seed], np.int32)
    maps = [case.u] if case.h is None else [case.u, case.h]
    arrays = [header, np.float32(case.temperature), *maps, case.weight, case.bias]
    result = subprocess.run(
        [program], input=b"".join(array.tobytes() for array in arrays), capture_output=True, check=False
    )
    if result.returncode:
        raise RuntimeError(result.stderr.decode("utf-8", "replace"))
    ends = np.cumsum([case.faces * expressions, case.faces * expressions])
    probabilities, logits, by_stratum = np.split(np.frombuffer(result.stdout, np.float32), ends)
    shape = (case.faces, expressions)
    return probabilities.reshape(shape), logits.reshape(shape), by_stratum.reshape(case.faces, case.strata, -1)
