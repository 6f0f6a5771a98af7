"""An engine is built from an exported file, whole and with its other files, or not at all.

The builds are real ones of TensorRT for RTX, which needs no GPU. No engine runs here.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from doubles.tiny_export import exported_tiny
from doubles.tiny_network import tiny_network
from iern.export.engine import build as module
from iern.export.engine.build import build_engine, check_machine, precision_of, why_not_run
from iern.export.engine.plan_builder import BuildOptions, load_backend
from iern.export.graph.cut import cut_before_tail
from iern.export.parity.gate_faces import GateFaces
from iern.export.parity.verify import read_exported
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.trt.engine_file import HEADS, Gpu, read_engine, tail_path
from iern.runtime.backends.trt.head_record import record_head
from iern.runtime.bundled import MODEL
from iern.runtime.errors import EngineError, ParityError
from iern.runtime.system.files import sha256
from iern.train.network.config import SEVEN_EXPRESSIONS, from_preset
from iern.train.network.iern import build

ADA = BuildOptions(batches=(1, 2), targets=("8.9",))
NATIVE, KERNEL = replace(ADA, head="native"), replace(ADA, head="kernel")
FACES = GateFaces()
"""The faces of the demo clip, read once for all tests."""
GPU = Gpu("NVIDIA GeForce RTX 4090", "sm_89", "13.0")


@pytest.fixture(scope="module")
def rtx():
    try:
        return load_backend("rtx")
    except EngineError as error:
        if sys.platform == "linux" and "not installed" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def graph() -> bytes:
    return exported_tiny(tiny_network(), trunk=torch.float16)


@pytest.fixture
def source(graph, tmp_path) -> Path:
    path = tmp_path / "tiny.fp16.onnx"
    path.write_bytes(graph)
    return path


@pytest.fixture
def target(source) -> Path:
    return source.with_suffix(".engine")


def test_a_manifest_records_source_options_and_machine_of_its_engine(rtx, source, target):
    lines: list[str] = []
    returned = build_engine(source, target, rtx, NATIVE, FACES, print_line=lines.append)
    found = read_engine(target)
    assert found.plan.startswith(b"vtrt"), "TensorRT's plan, with nothing before it"
    manifest = found.manifest
    assert manifest == returned
    assert (manifest.backend, manifest.tensorrt) == ("rtx", rtx[1].__version__)
    assert (manifest.onnx, manifest.onnx_sha256) == ("tiny.fp16.onnx", sha256(source))
    assert (manifest.head, manifest.precision, manifest.batches) == ("native", "fp16", (1, 2))
    assert manifest.targets == ("sm_89",)
    assert found.artifact == read_exported(source)[1]
    assert "building for 8.9 with TensorRT for RTX" in lines[0]
    if manifest.gpu is None:
        assert "outputs are not checked: there is no GPU here" in lines[1]


def test_with_head_kernel_the_plan_ends_before_the_tail_and_its_weights_are_in_a_file_beside_it(rtx, source, target):
    build_engine(source, target, rtx, NATIVE, FACES)
    whole = target.read_bytes()
    build_engine(source, target, rtx, KERNEL, FACES)
    found, expected = read_engine(target), cut_before_tail(onnx.load(source))[1]
    assert found.plan != whole
    assert found.tail is not None
    np.testing.assert_array_equal(found.tail.weight, expected.weight)
    np.testing.assert_array_equal(found.tail.bias, expected.bias)
    build_engine(source, target, rtx, NATIVE, FACES)
    assert not tail_path(target).exists()


@pytest.mark.parametrize("head", HEADS)
def test_the_bundled_model_becomes_an_engine(rtx, tmp_path, head):
    options = BuildOptions(head=head, batches=(1,), targets=("sm_86", "sm_89", "sm_120"))
    found = build_engine(MODEL.with_suffix(".fp16.onnx"), tmp_path / "a.engine", rtx, options, FACES)
    assert (found.precision, found.head, found.targets) == ("fp16", head, options.targets)
    assert 1e6 < (tmp_path / "a.engine").stat().st_size < 40e6


@pytest.mark.slow
def test_the_papers_network_with_ten_strata_becomes_an_engine(rtx, tmp_path):
    config = from_preset("paper", expressions=SEVEN_EXPRESSIONS, strata=tuple(f"stratum {i}" for i in range(10)))
    source = tmp_path / "paper.fp16.onnx"
    source.write_bytes(exported_tiny(build(config).eval(), trunk=torch.float16))
    for head in HEADS:
        options = BuildOptions(head=head, batches=(1,), targets=("sm_89",))
        assert build_engine(source, tmp_path / "paper.engine", rtx, options, FACES).precision == "fp16"
        assert (tmp_path / "paper.engine").stat().st_size > 90e6, "ResNet-50 and g_r in half precision"


def test_turing_which_has_no_float32_matrix_product_needs_head_kernel(rtx, source, target):
    turing = BuildOptions(batches=(1,), targets=("sm_75",))
    with pytest.raises(EngineError, match="SM75"):
        build_engine(source, target, rtx, replace(turing, head="native"), FACES)
    assert not target.exists()
    build_engine(source, target, rtx, replace(turing, head="kernel"), FACES)
    assert read_engine(target).manifest.targets == ("sm_75",)


@pytest.mark.parametrize("error", [EngineError("no"), KeyboardInterrupt()])
def test_a_build_that_fails_or_is_interrupted_changes_no_file(rtx, source, target, monkeypatch, error):
    build_engine(source, target, rtx, KERNEL, FACES)
    before = {path.name: path.read_bytes() for path in target.parent.iterdir()}

    def fail(*_):
        raise error

    monkeypatch.setattr(module, "build_plan", fail)
    with pytest.raises(type(error)):
        build_engine(source, target, rtx, NATIVE, FACES)
    assert {path.name: path.read_bytes() for path in target.parent.iterdir()} == before


@pytest.fixture
def runnable(monkeypatch):
    """Makes the engine run here: the exported file of a network of that seed replaces it."""

    def run_file_instead(seed: int) -> None:
        content = exported_tiny(tiny_network(seed=seed))
        monkeypatch.setattr(module, "why_not_run", lambda manifest: "")
        monkeypatch.setattr(module, "open_session", lambda path: open_session(content, "cpu"))

    return run_file_instead


def test_an_engine_whose_outputs_differ_from_its_files_is_not_written(rtx, source, target, runnable):
    runnable(seed=1)
    with pytest.raises(ParityError, match=r"outputs differ from those of .*tiny.fp16.onnx.*not written"):
        build_engine(source, target, rtx, NATIVE, FACES)
    assert [path.name for path in target.parent.iterdir()] == ["tiny.fp16.onnx"]


def test_the_differences_of_the_engines_outputs_are_in_its_manifest(rtx, source, target, runnable):
    runnable(seed=0)
    build_engine(source, target, rtx, NATIVE, FACES)
    parity = read_engine(target).manifest.parity
    assert parity["faces"] >= 1000
    assert 0 < parity["logits"] < 1e-2


def test_the_head_that_was_measured_faster_with_this_gpu_and_tensorrt_is_the_default(
    rtx, source, target, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "gpu_here", lambda: GPU)
    monkeypatch.setattr(module, "why_not_run", lambda manifest: "that GPU is made up")
    assert build_engine(source, target, rtx, ADA, FACES).head == "native"
    record_head(GPU.name, str(rtx[1].__version__), "kernel")
    assert build_engine(source, target, rtx, ADA, FACES).head == "kernel"
    monkeypatch.setattr(module, "gpu_here", lambda: replace(GPU, name="another"))
    assert build_engine(source, target, rtx, ADA, FACES).head == "native"


def test_tensorrt_is_refused_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(module, "run_probe", lambda name: {"error": "there is no NVIDIA driver", "missing": True})
    with pytest.raises(EngineError, match=r"builds for the GPU that it runs on, .*--backend rtx"):
        check_machine("tensorrt")
    assert check_machine("rtx") is None


def test_an_engine_is_built_for_the_first_gpu(monkeypatch):
    gpus = [{"name": "Orin", "sm": "8.7", "memory_gib": 7.4}, {"name": "other", "sm": "8.9", "memory_gib": 24.0}]
    monkeypatch.setattr(module, "run_probe", lambda name: {"version": "12.6", "gpus": gpus})
    monkeypatch.setattr(module, "nvidia_driver", lambda: "540.4.0")
    assert check_machine("tensorrt") == Gpu("Orin", "sm_87", "12.6", "540.4.0")


def test_the_reason_why_an_engine_does_not_run_here_is_given(rtx, source, target, monkeypatch):
    manifest = build_engine(source, target, rtx, NATIVE, FACES)
    here = replace(manifest, gpu=GPU)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert "pip install pycuda" in why_not_run(here)
    elsewhere = replace(here, gpu=replace(GPU, compute_capability="sm_86"))
    assert "sm_86" in why_not_run(elsewhere)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    assert why_not_run(here) == ""


def test_the_precision_is_that_of_the_weights(graph):
    assert precision_of(onnx.load_from_string(graph)) == "fp16"
    assert precision_of(onnx.load(MODEL)) == "fp32"
