"""The kernels compiled for every intended GPU, and the compiler's report on them. No GPU takes part."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

import pytest

from doubles.gpu.kernel_on_cpu import KERNEL
from iern.cpp_ext import native
from iern.cpp_ext.compile_native import find_nvcc

NVCC = find_nvcc()

pytestmark = pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")

QUICK = 87
"""Orin."""
GPUS = (75, 80, 86, QUICK, 88, 89, 90, 100, 103, 110, 120, 121)
KERNELS = {native.kernel_name(windowed, half) for windowed in (False, True) for half in (False, True)}

MOST_REGISTERS = 64
"""With this number, each of these GPUs can hold half of its largest number of threads."""
MOST_SHARED_BYTES = 1024


@functools.cache
def known_gpus() -> set[str]:
    """Names such as sm_87 that this nvcc compiles for."""
    return set(nvcc("--list-gpu-code").stdout.split())


def nvcc(*words: str | Path) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([NVCC, *words], capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.parametrize(
    "gpu", [pytest.param(gpu, marks=[] if gpu == QUICK else pytest.mark.slow, id=f"sm_{gpu}") for gpu in GPUS]
)
def test_the_kernels_fit_a_gpu_without_spilling(tmp_path, gpu):
    if f"sm_{gpu}" not in known_gpus():
        pytest.skip(f"this nvcc does not know sm_{gpu}")
    output = nvcc("-std=c++17", "-O3", "-cubin", f"-arch=sm_{gpu}", "-Xptxas=-v", KERNEL, "-o", tmp_path / "out").stderr
    found = set()
    for part in output.split("Compiling entry function ")[1:]:
        name = re.match(r"'(\w+)'", part)[1]
        found.add(name)
        assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in part, part
        registers, shared = int(re.search(r"Used (\d+) registers", part)[1]), re.search(r"(\d+) bytes smem", part)
        assert registers <= MOST_REGISTERS, f"{name} uses {registers}"
        assert shared and int(shared[1]) <= MOST_SHARED_BYTES, part
        print(f"sm_{gpu} {name}: {registers} registers, {shared[1]} bytes of shared memory")
    assert found == KERNELS


def test_blocks_count_themselves_between_two_fences_and_read_nothing_around_the_caches(tmp_path):
    """The effect of a fence does not show on a CPU, so the place of the fences is read from the code. The code must
    also change only a counter atomically, and no load may use the read-only path, which fences do not affect."""
    output = tmp_path / "out.ptx"
    nvcc("-std=c++17", "-O3", "-ptx", "-arch=compute_75", KERNEL, "-o", output)
    text = output.read_text(encoding="utf-8")
    kernels = re.split(r"\.visible \.entry ", text)[1:]
    assert len(kernels) == len(KERNELS)
    for kernel in kernels:
        assert "ld.global.nc" not in kernel
        marks = re.findall(r"^\s*(?:@\S+ )?((?:bar|barrier|membar|fence|atom|red)\b\S*)", kernel, re.MULTILINE)
        order = [re.sub(r"^membar\.gl\b.*|^fence\..*\.gpu\b.*", "fence", mark.rstrip(";")) for mark in marks]
        atomic = [i for i, mark in enumerate(order) if mark.startswith(("atom", "red"))]
        assert len(atomic) == 1 and order[atomic[0]].startswith("atom.global.inc"), order
        before, behind = order[: atomic[0]], order[atomic[0] + 1 :]
        assert before[-1] == behind[0] == "fence", order
        assert before[-2].startswith("bar") and behind[1].startswith("bar"), order
