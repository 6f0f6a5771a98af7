"""The CUDA kernels, run on the CPU under several schedules, compared in float64 with the layers that they replace."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common.tail_cases import TailCase, tail_case
from doubles.gpu.kernel_on_cpu import COMPILER, KERNEL, NO_COMPILER, SANITIZERS, compile_kernel, run_kernel
from iern.cpp_ext import native

pytestmark = pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER)

TOLERANCE = 5e-7
"""A few roundings of float32."""
SEEDS = (0, 2)
"""Each runs two schedules: 0 in order and in reverse, 2 any thread and by urgency."""

CASES = {
    "half, mean of logits": {},
    "half, mean of softmaxes": {"answer": "probabilities"},
    "single precision": {"half": False},
    "block paper, half": {"windowed": False, "answer": "probabilities"},
    "block paper, single precision": {"windowed": False, "half": False},
    "maps of one pixel": {"map_size": (1, 1)},
    "maps of one row": {"map_size": (1, 9)},
    "maps of one column, more rows than lanes": {"map_size": (19, 1)},
    "more expressions than a warp": {"expressions": 37, "strata": 1},
    "fewer channels than a block takes": {"channels": 3, "faces": 1, "strata": 4},
    "channels that fill their blocks": {"channels": 32, "faces": 1, "strata": 2},
    "one of everything": {"faces": 1, "strata": 1, "channels": 1, "expressions": 1},
}


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    return compile_kernel(tmp_path_factory.mktemp("kernel") / "run_tail")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory) -> Path:
    return compile_kernel(tmp_path_factory.mktemp("kernel") / "run_tail", *SANITIZERS)


def assert_right(program: Path, case: TailCase, seeds: tuple[int, ...] = SEEDS) -> None:
    results = [run_kernel(program, case, seed) for seed in seeds]
    for outputs in results:
        assert max(case.differences(*outputs).values()) < TOLERANCE
        for values, first in zip(outputs, results[0], strict=True):
            np.testing.assert_array_equal(values.view(np.uint32), first.view(np.uint32))


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_equals_float64_with_the_same_bits_under_every_schedule(program, name):
    assert_right(program, tail_case(**{"faces": 2, "strata": 2, "channels": 18, **CASES[name]}))


def test_sums_of_large_maps_stay_precise(program):
    assert_right(program, tail_case(faces=1, strata=1, channels=4, map_size=(56, 56)), seeds=(2,))


@pytest.mark.slow
def test_the_kernel_equals_float64_at_the_size_of_the_papers_network_with_ten_strata(program):
    assert_right(program, tail_case(faces=1, strata=10, channels=512), seeds=(2,))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_sanitizers_find_nothing_in_the_kernel(sanitized, name):
    assert_right(sanitized, tail_case(**{"faces": 2, "strata": 2, "channels": 18, **CASES[name]}), seeds=(2,))


def test_python_has_the_kernels_launch_size_and_names():
    header = KERNEL.with_name("strata_tail.h").read_text(encoding="utf-8")
    constants = dict(re.findall(r"constexpr int (\w+) = (\d+);", header))
    assert int(constants["THREADS"]) == native.THREADS
    assert int(constants["THREADS"]) // int(constants["LANES"]) == native.CHANNELS
    names = {native.kernel_name(windowed, half) for windowed in (False, True) for half in (False, True)}
    assert names == set(re.findall(r"^KERNEL\((\w+),", KERNEL.read_text(encoding="utf-8"), re.MULTILINE))


def test_a_small_batch_fills_a_large_gpu():
    columns, strata, faces = native.grid(faces=1, strata=10, channels=512)
    assert columns * strata * faces >= 188, "multiprocessors of the largest GPU at hand"


# The mistake, the right code, the planted code.
BUGS = [
    ("no barrier before the classifier", "    __syncthreads();\n    const size_t block", "    const size_t block"),
    ("no barrier before counting", "    __syncthreads();\n    if (threadIdx.x == 0) {", "    if (threadIdx.x == 0) {"),
    ("no barrier behind counting", "    __syncthreads();\n    return last;", "    return last;"),
    ("no barrier before the mean", "    __syncthreads();\n    for (int e", "    for (int e"),
    ("no barrier before the softmax", "    __syncthreads();\n    // Every", "    // Every"),
    ("no fence before counting", "        __threadfence();\n        last", "        last"),
    ("no fence behind counting", "== others;\n        __threadfence();", "== others;"),
    ("half a mask", "0xffffffffu", "0x0000ffffu"),
    ("lanes stay away", "sums[k] = sum_over<LANES>", "if (channel < tail.channels) sums[k] = sum_over<LANES>"),
    ("one step less", "int step = GROUP / 2", "int step = GROUP / 4"),
    ("left window over all columns", "x < width - 1", "x < width"),
    ("lower window over all rows", "if (y > 0)", ""),
    ("one row too many", "y < tail.height;", "y <= tail.height;"),
    ("never the last block", "gridDim.x * gridDim.y - 1", "gridDim.x * gridDim.y"),
    ("the first block taken for the last", "== others;", "== 0;"),
    ("partial logits of another face", "size_t(face) * chunks * row", "0"),
    ("partial logits out of place", "blockIdx.x) * tail.strata + blockIdx.y", "blockIdx.x) * tail.strata"),
]
MEMORY_BUGS = [  # only a sanitizer finds these: the values read are multiplied by zero or overwritten
    ("weights behind the last channel", "min(CHANNELS, tail.channels - first)", "CHANNELS"),
    ("maps behind the last channel", "if (channel < tail.channels) {", "{"),
    ("shared memory one too small", "channel_sums[CHANNELS * sums];", "channel_sums[CHANNELS * sums - 1];"),
]


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS + MEMORY_BUGS, ids=lambda bug: bug[0])
def test_a_planted_bug_is_caught(tmp_path, bug):
    _, right, wrong = bug
    source = KERNEL.read_text(encoding="utf-8")
    assert right in source, "the code that the planted bug replaces has changed"
    mutant = tmp_path / "mutant.cu"
    mutant.write_text(source.replace(right, wrong, 1), encoding="utf-8")
    program = compile_kernel(tmp_path / "run_tail", *(SANITIZERS if bug in MEMORY_BUGS else ()), source=mutant)
    case = tail_case(faces=2, strata=2, channels=18)
    with pytest.raises((RuntimeError, AssertionError)):
        for seed in range(0, 20, 2):
            assert_right(program, case, seeds=(seed,))
