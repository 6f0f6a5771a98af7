"""The operator `iern::strata_tail`: its outputs, the arguments that it refuses, and PyTorch's rules for operators."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import zipfile

import pytest
import torch
from torch import Tensor, nn

from benchmarks.common.tail_cases import CASES, TailCase, tail_case
from iern.cpp_ext import native
from iern.cpp_ext.compile_native import cuda_command
from iern.cpp_ext.tail_weights import pooled_weights, windowed_weights
from iern.cpp_ext.torch_operator import launch_from, launch_with, strata_tail
from iern.export.graph.deconfound import PooledTail, WindowSumTail
from iern.train.network.iern import Classifier
from repository import ROOT, tracked_files

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def arguments(case: TailCase, device: str = "cpu") -> tuple:
    """Positional arguments of the operator."""
    tensors = [
        None if array is None else torch.from_numpy(array).to(device)
        for array in (case.u, case.h, case.weight, case.bias)
    ]
    return *tensors, case.strata, case.temperature, case.answer


def largest_difference(case: TailCase, answer: tuple[Tensor, Tensor, Tensor]) -> float:
    return max(case.differences(*(tensor.cpu().numpy() for tensor in answer)).values())


@pytest.mark.parametrize("name", CASES)
def test_the_operator_equals_float64(name):
    case = tail_case(**CASES[name])
    assert largest_difference(case, strata_tail(*arguments(case))) < 1e-6


def test_the_operator_equals_the_exported_tail():
    last, classifier = nn.Conv2d(5, 5, 3, padding=1), Classifier(5, 4)
    u, h = torch.randn(6, 5, 4, 7), torch.rand(6, 5, 4, 7)
    with torch.no_grad():
        weights = (classifier.linear.weight, classifier.linear.bias, last.weight, last.bias)
        table, bias = map(torch.from_numpy, windowed_weights(*weights, (4, 7)))
        torch.testing.assert_close(
            strata_tail(u, h, table, bias, 3)[2], WindowSumTail(last, classifier, (4, 7), 3)(u, h)
        )
        table, bias = map(torch.from_numpy, pooled_weights(*weights[:2], (4, 7)))
        torch.testing.assert_close(strata_tail(u, None, table, bias, 3)[2], PooledTail(classifier, 3)(u))


@pytest.mark.parametrize("name", ["half, mean of softmaxes", "block paper"])
def test_the_operator_keeps_the_rules_of_pytorch(name):
    torch.library.opcheck(strata_tail, arguments(tail_case(**CASES[name])))


def test_channels_last_maps_give_the_same():
    case = tail_case()
    u, h, *others = arguments(case)
    last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in (u, h)]
    assert largest_difference(case, strata_tail(*last, *others)) < 1e-6


def test_no_face_gives_empty_outputs():
    u, h, *others = arguments(tail_case())
    assert [tuple(tensor.shape) for tensor in strata_tail(u[:0], h[:0], *others)] == [(0, 6), (0, 6), (0, 3, 6)]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"u": torch.zeros(6, 20, 7, 7, dtype=torch.float64)}, "float64; expected"),
        ({"u": torch.zeros(6, 20, 49)}, r"u is \(6, 20, 49\)"),
        ({"h": torch.zeros(6, 20, 7, 7)}, "h is .* of torch.float32, but u is .* of torch.float16"),
        ({"h": None}, r"expected \(6, 20, 1\)"),
        ({"weight": torch.zeros(6, 20, 9)}, r"weight is \(6, 20, 9\)"),
        ({"strata": 4}, "6 maps, which is not a multiple of 4 strata"),
        ({"strata": 0}, "0 strata"),
        ({"temperature": 0.0}, "must be positive"),
        ({"answer": "probability"}, "expected 'logits' or 'probabilities'"),
        ({"bias": torch.zeros(6, device="meta")}, "different devices"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_what_was_found(changed, complaint):
    names = ("u", "h", "weight", "bias", "strata", "temperature", "answer")
    fitting = dict(zip(names, arguments(tail_case()), strict=True))
    with pytest.raises(ValueError, match=complaint):
        strata_tail(**{**fitting, **changed})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
def test_setup_builds_the_cpu_library_and_the_operator_uses_it(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    for path in tracked_files():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    environment = {**os.environ, "IERN_BUILD_TAIL": "1", "CUDA_HOME": str(tmp_path / "absent")}
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    build = [sys.executable, "-m", "pip", "wheel", source, *offline, "--wheel-dir", out]
    subprocess.run(build, env=environment, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    assert "py3-none-any" not in wheel.name, "a compiled library does not run on any machine"
    zipfile.ZipFile(wheel).extractall(tmp_path / "unpacked")
    case = tail_case()
    inputs, answer = tmp_path / "inputs.pt", tmp_path / "answer.pt"
    torch.save(arguments(case), inputs)
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path / "unpacked")!r})
        import torch
        from iern.cpp_ext import native, torch_operator
        assert native.__file__.startswith({str(tmp_path)!r})
        loaded = native.library(native.CPU)
        assert loaded is not None and native.library(native.CUDA) is None
        run, calls = native.run_on_cpu, []
        native.run_on_cpu = lambda *given: calls.append(given) or run(*given)
        inputs = torch.load({str(inputs)!r}, weights_only=True)
        torch.save(torch_operator.strata_tail(*inputs), {str(answer)!r})
        assert len(calls) == 1, "the operator did not use the library"
        torch.library.opcheck(torch_operator.strata_tail, inputs)
        """
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
    assert largest_difference(case, torch.load(answer, weights_only=True)) < 3e-7


@pytest.fixture(scope="module")
def kernel(tmp_path_factory) -> None:
    """On CUDA tensors the operator is the kernel, not PyTorch calls. It is built before, or here for this GPU."""
    if native.library(native.CUDA) is not None:
        return
    folder = tmp_path_factory.mktemp("kernel")
    command = cuda_command(folder / f"{native.CUDA}.so")
    if command is None:
        pytest.skip("the kernel is not built, and there is no nvcc")
    gpu = "-arch=sm_{}{}".format(*torch.cuda.get_device_capability())
    subprocess.run([gpu if word.startswith("-arch=") else word for word in command], check=True)
    loaded = native.library(native.CUDA, folder)
    assert loaded is not None
    launch_with("cuda", launch_from(native.CUDA, loaded))


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_the_kernel_equals_float64_on_a_gpu_with_the_same_bits_every_time(kernel, name):
    case = tail_case(**{"strata": 10, "channels": 512, **CASES[name]})
    answers = [strata_tail(*arguments(case, "cuda")) for _ in range(100)]
    assert largest_difference(case, answers[0]) < 1e-6
    for answer in answers:
        assert all(torch.equal(found, first) for found, first in zip(answer, answers[0], strict=True))


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize(("faces", "strata", "channels"), [(16, 1, 128), (16, 3, 128), (1, 3, 512), (5, 10, 33)])
def test_the_kernel_equals_float64_on_a_gpu_at_other_sizes(kernel, faces, strata, channels):
    case = tail_case(faces=faces, strata=strata, channels=channels)
    assert largest_difference(case, strata_tail(*arguments(case, "cuda"))) < 1e-6


@needs_gpu
@pytest.mark.gpu
def test_a_compiled_function_uses_the_kernel_on_a_gpu(kernel):
    pytest.importorskip("triton", reason="torch.compile needs Triton")
    case = tail_case(strata=10, channels=512)
    given = arguments(case, "cuda")
    expected = strata_tail(*given)
    found = torch.compile(lambda: strata_tail(*given), fullgraph=True)()
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@needs_gpu
@pytest.mark.gpu
def test_the_kernel_is_captured_in_a_cuda_graph(kernel):
    case = tail_case(strata=10, channels=512)
    given = arguments(case, "cuda")
    strata_tail(*given)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = strata_tail(*given)
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    assert largest_difference(case, answer) < 1e-6
