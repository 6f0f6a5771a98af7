"""The compiled libraries: the plain C++ form compared with float64, and the launcher, without a GPU."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.common.tail_cases import CASES, TailCase, tail_case
from iern.cpp_ext import compile_native, native
from repository import ROOT

TWIN_CASES = {
    **CASES,
    "the paper's network with ten strata": {"faces": 1, "strata": 10, "channels": 512},
    "64 expressions": {"expressions": 64},
}


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("native")
    command = compile_native.cpu_command(folder / "strata_tail_cpu.so")
    if command is None:
        pytest.skip("there is no C++ compiler")
    subprocess.run([*command, "-Wall", "-Wextra", "-Werror"], check=True)
    loaded = native.library(native.CPU, folder)
    assert loaded is not None
    return loaded


def run_twin(loaded: ctypes.CDLL, case: TailCase) -> list[np.ndarray]:
    outputs = [np.full_like(values, np.nan, np.float32) for values in expected(case)]
    probabilities, logits, by_stratum = outputs
    inputs = (case.u, case.h, case.weight, case.bias)
    tail = native.Tail(
        *(0 if array is None else array.ctypes.data for array in inputs),
        *(0, 0),
        *(array.ctypes.data for array in (by_stratum, logits, probabilities)),
        *(case.faces, case.strata, *case.u.shape[1:], len(case.bias)),
        case.temperature,
        case.answer == "probabilities",
    )
    native.run_on_cpu(loaded, tail, half=case.u.dtype == np.float16)
    return outputs


def expected(case: TailCase) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return case.probabilities, case.logits, case.stratum_logits


@pytest.mark.parametrize("name", TWIN_CASES)
def test_the_plain_twin_equals_float64(twin, name):
    case = tail_case(**TWIN_CASES[name])
    assert max(case.differences(*run_twin(twin, case)).values()) < 3e-7


def test_every_half_precision_number_has_numpys_value(twin):
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    one, zero = np.ones((1, 1, 1), np.float32), np.zeros(1, np.float32)
    blank = np.zeros((len(numbers), 1))
    case = TailCase(numbers.reshape(-1, 1, 1, 1), None, one, zero, 1, 1.0, "logits", blank, blank, blank[..., None])
    _, logits, _ = run_twin(twin, case)
    np.testing.assert_array_equal(logits[:, 0], numbers.astype(np.float32))


def test_the_structure_in_python_is_the_one_in_c():
    header = (ROOT / "cpp_ext" / "strata_tail.h").read_text(encoding="utf-8")
    body = re.sub(r"//.*", "", header[header.index("struct Tail {") : header.index("};")])
    declared = []
    for statement in re.findall(r"(?:const )?(?:void|float|unsigned|int)\b[^;{]*;", body):
        kind, names = re.fullmatch(r"(?:const )?(\w+\*?)\s+(.*);", statement).groups()
        declared += [(name.strip(), kind) for name in names.split(",")]
    types = {"int": ctypes.c_int, "float": ctypes.c_float}
    assert [(name, types.get(kind, ctypes.c_void_p)) for name, kind in declared] == list(native.Tail._fields_)


def test_a_library_that_was_not_built_is_none(tmp_path):
    assert native.library(native.CPU, tmp_path) is None
    assert native.library(native.CUDA, tmp_path) is None


def test_all_modules_but_the_operator_load_without_torch():
    modules = [f"iern.cpp_ext.{path.stem}" for path in (ROOT / "cpp_ext").glob("[!_]*.py") if path.stem[:5] != "torch"]
    assert {"iern.cpp_ext.native", "iern.cpp_ext.tail_weights"} <= set(modules)
    program = f"import importlib, sys; sys.modules['torch'] = None; [importlib.import_module(m) for m in {modules}]"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_cuda_home_selects_the_nvcc(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert compile_native.cuda_command(Path("out.so")) is None
    compiler = tmp_path / "bin" / "nvcc"
    compiler.parent.mkdir()
    compiler.touch(mode=0o755)
    command = compile_native.cuda_command(Path("out.so"))
    assert command is not None and command[0] == str(compiler)


@pytest.mark.slow
@pytest.mark.skipif(compile_native.find_nvcc() is None, reason="nvcc is not installed")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, on which null pointers must not be tried")
def test_without_a_gpu_the_launcher_loads_and_reports_why_it_cannot_start(tmp_path):
    command = compile_native.cuda_command(tmp_path / "strata_tail_cuda.so")
    subprocess.run([word.replace("-arch=all", "-arch=sm_75") for word in command], check=True)
    loaded = native.library(native.CUDA, tmp_path)
    tail = native.Tail(faces=1, strata=1, channels=1, height=1, width=1, expressions=1)
    with pytest.raises(RuntimeError, match=r"did not start: .*(CUDA|driver)"):
        native.run_on_cuda(loaded, tail, half=True, stream=0)
