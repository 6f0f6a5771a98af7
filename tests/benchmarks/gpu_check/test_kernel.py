"""How the kernel is loaded and launched, without a GPU: a driver on the CPU takes the launches."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.common.tail_cases import CASES, tail_case
from benchmarks.gpu_check.kernel import DriverKernels, from_images, from_nvcc
from doubles.gpu.kernel_on_cpu import COMPILER, NO_COMPILER
from iern.cpp_ext import native
from iern.cpp_ext.compile_native import find_nvcc
from iern.runtime.errors import EngineError
from repository import ROOT

STREAM = 77
"""The stream that the driver on the CPU expects."""
IMAGES = [("sm_1", b"bad"), ("sm_2", b"good"), ("sm_3", b"good")]


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    if COMPILER is None:
        pytest.skip(NO_COMPILER)
    output = tmp_path_factory.mktemp("driver") / "driver.so"
    source = ROOT / "tests" / "doubles" / "gpu" / "driver_on_cpu.cpp"
    options = ["-std=c++17", "-O2", "-shared", "-fPIC", f"-I{ROOT / 'cpp_ext'}"]
    subprocess.run([COMPILER, *options, str(source), "-o", str(output)], check=True)
    return output


@pytest.fixture
def driver(library) -> ctypes.CDLL:
    return ctypes.CDLL(str(library))


@pytest.mark.parametrize("name", CASES)
def test_a_launch_through_the_driver_carries_the_whole_argument_and_the_right_grid(driver, name):
    """The driver on the CPU refuses another grid or stream, reads the argument and calls the plain twin."""
    case = tail_case(**CASES[name])
    outputs = [np.full_like(v, np.nan, np.float32) for v in (case.probabilities, case.logits, case.stratum_logits)]
    probabilities, logits, by_stratum = (array.ctypes.data for array in outputs)
    tail = native.Tail(
        *(0 if array is None else array.ctypes.data for array in (case.u, case.h, case.weight, case.bias)),
        *(0, 0, by_stratum, logits, probabilities),
        *(case.faces, case.strata, *case.u.shape[1:], len(case.bias)),
        *(case.temperature, case.answer == "probabilities"),
    )
    kernels = DriverKernels(driver, iter(IMAGES))
    kernels(tail, case.u.dtype == np.float16, STREAM)
    assert max(case.differences(*outputs).values()) < 3e-7


def test_the_first_image_that_the_driver_loads_is_taken(driver):
    assert DriverKernels(driver, iter(IMAGES)).name == "sm_2"


def test_if_no_image_loads_the_drivers_error_for_each_is_reported(driver):
    with pytest.raises(EngineError, match=re.escape("sm_1: error 209, no binary for this GPU; ptx: error 209")):
        DriverKernels(driver, [("sm_1", b"bad"), ("ptx", b"worse")])
    with pytest.raises(EngineError, match="there are none"):
        DriverKernels(driver, [])


def test_a_launch_that_the_driver_refuses_is_an_error(driver):
    kernels = DriverKernels(driver, IMAGES)
    with pytest.raises(EngineError, match=r"refuses the kernel of sm_2 \(error 1, invalid value\)"):
        kernels(native.Tail(faces=1, strata=1, channels=1), half=True, stream=STREAM + 1)


def test_the_operator_uses_the_launch_registered_last_and_passes_the_check_with_it(library):
    """In its own process, since the operator keeps what is registered."""
    program = f"""
        import ctypes, sys
        from benchmarks.gpu_check import kernel as gpu_kernel
        from iern.cpp_ext.torch_operator import launch_with
        gpu_kernel.SHAPES, gpu_kernel.REPEATS = {{"channels": 24}}, 2
        kernels, calls = gpu_kernel.DriverKernels(ctypes.CDLL({str(library)!r}), [("image", b"good")]), []
        launch_with("cpu", lambda tail, half: sys.exit("the launch registered first was used"))
        launch_with("cpu", lambda tail, half: calls.append(half) or kernels(tail, half, {STREAM}))
        found = gpu_kernel.check_tail("cpu")
        assert len(calls) == 2 * len(found), calls
        launch_with("cpu", lambda tail, half: None)
        try:
            gpu_kernel.check_tail("cpu")
        except gpu_kernel.EngineError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert "differs from float64" in done.stdout, "a kernel that writes nothing passes"


def test_nvcc_that_is_missing_or_fails_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(EngineError, match="nvcc is not found"):
        from_nvcc(tmp_path, "sm_87")
    compiler = tmp_path / "bin" / "nvcc"
    compiler.parent.mkdir()
    compiler.write_text('#!/bin/sh\necho "Unsupported gpu architecture in $3" >&2\nexit 1\n', encoding="utf-8")
    compiler.chmod(0o755)
    with pytest.raises(EngineError, match="status 1: Unsupported gpu architecture in -arch=sm_87"):
        from_nvcc(tmp_path, "sm_87")


@pytest.mark.slow
@pytest.mark.skipif(find_nvcc() is None, reason="nvcc is not installed")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, on which null pointers must not be tried")
def test_nvcc_builds_the_library_for_one_gpu_and_it_loads(tmp_path):
    from_nvcc(tmp_path, "sm_87")
    loaded = native.library(native.CUDA, tmp_path)
    assert loaded is not None
    with pytest.raises(RuntimeError, match=r"did not start: .*(CUDA|driver)"):
        native.run_on_cuda(loaded, native.Tail(faces=1, strata=1, channels=1), half=True, stream=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_shipped_image_runs_on_a_gpu():
    capability = "sm_{}{}".format(*torch.cuda.get_device_capability())
    case = tail_case(strata=10, channels=512)
    launch = from_images(capability)
    arguments = [torch.from_numpy(array).cuda() for array in (case.u, case.h, case.weight, case.bias)]
    shapes = [array.shape for array in (case.probabilities, case.logits, case.stratum_logits)]
    probabilities, logits, by_stratum = outputs = [torch.full(shape, np.nan, device="cuda") for shape in shapes]
    partials = torch.empty(native.partials_shape(case.faces, 10, 512, len(case.bias)), device="cuda")
    done = torch.zeros(case.faces, dtype=torch.int32, device="cuda")
    tail = native.Tail(
        *(tensor.data_ptr() for tensor in (*arguments, partials, done, by_stratum, logits, probabilities)),
        *(case.faces, case.strata, *case.u.shape[1:], len(case.bias)),
        *(case.temperature, case.answer == "probabilities"),
    )
    launch(tail, True)
    torch.cuda.synchronize()
    assert max(case.differences(*(tensor.cpu().numpy() for tensor in outputs)).values()) < 1e-6
