"""The builder makes real plans with TensorRT for RTX and no GPU, and calls only members that every TensorRT has."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import onnx
import pytest
import torch

from doubles.tiny_network import tiny_network
from iern.export.engine import plan_builder
from iern.export.engine.plan_builder import BuildOptions, build_plan, capability, check_starts, load_backend
from iern.export.graph.deconfound import deconfound
from iern.export.graph.onnx_graph import export_onnx
from iern.runtime.artifact import Artifact
from iern.runtime.backends.trt import plan as tensorrt_engine
from iern.runtime.bundled import MODEL
from iern.runtime.errors import EngineError
from repository import ROOT

VARIABLES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
}
"""Names of variables in the source -> their classes."""
RTX_ONLY = {
    "BuilderFlag.REQUIRE_USER_ALLOCATION",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
}


@pytest.fixture(scope="module")
def rtx():
    try:
        return load_backend("rtx")
    except EngineError as error:
        if sys.platform == "linux" and os.uname().machine == "x86_64" and "not installed" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def graph() -> bytes:
    """A small network with a trunk in half precision."""
    model = tiny_network()
    artifact = Artifact(model.config.expressions, model.config.strata, model.config.input)
    return export_onnx(deconfound(model, trunk=torch.float16), artifact)


def members_called() -> set[str]:
    """`Class.member` for all that the builder uses of TensorRT, read from its source."""
    found = set()
    for name in ("export/engine/plan_builder.py", "export/engine/progress_monitor.py"):
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id in VARIABLES:
                found.add(f"{VARIABLES[owner.id]}.{node.attr}")
            elif isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id == "trt":
                found.add(f"{owner.attr}.{node.attr}")
    return found


def test_every_member_that_is_used_exists_in_every_tensorrt_from_10_3_to_11_and_in_rtx():
    table = json.loads((ROOT / "tests" / "doubles" / "gpu" / "tensorrt_api.json").read_text(encoding="utf-8"))
    assert len(table["versions"]) == 8 and table["versions"][-1] == "rtx"
    called = members_called() - {"ComputeCapability.__members__", "ILogger.__init__", "IProgressMonitor.__init__"}
    assert {"Builder.build_serialized_network", "OnnxParser.parse", "MemoryPoolType.WORKSPACE"} <= called
    everywhere = "1" * len(table["versions"])
    lacking = {name for name in called if table["members"].get(name) != everywhere}
    assert lacking == RTX_ONLY
    assert all(table["members"][name].endswith("1") for name in RTX_ONLY)


def test_a_plan_for_a_named_gpu_is_built_without_one_and_progress_is_reported(rtx, graph, tmp_path):
    steps: dict[str, tuple[int, int]] = {}
    options = BuildOptions(batches=(1,), targets=("sm_89",), log=tmp_path / "log.txt")
    plan = build_plan(graph, rtx, options, lambda phase, done, of: steps.update({phase: (done, of)}))
    assert plan.startswith(b"vtrt")
    assert steps and all(done == of > 0 for done, of in steps.values())
    assert "stratum_logits" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_a_float32_graph_is_built_too(rtx):
    assert build_plan(MODEL.read_bytes(), rtx, BuildOptions(batches=(1,), targets=("sm_86", "sm_120"))).startswith(
        b"vtrt"
    )


def test_a_graph_that_rtx_cannot_compile_for_a_gpu_is_reported_with_its_error(rtx):
    """Turing has no float32 matrix product in TensorRT for RTX 1.7."""
    with pytest.raises(EngineError, match=r"cannot build this graph .*SM75.*; --log FILE keeps its log"):
        build_plan(MODEL.read_bytes(), rtx, BuildOptions(targets=("sm_75",)))


def test_a_tensorrt_that_does_not_start_is_reported_with_its_warnings(rtx):
    """A driver that is older than TensorRT's CUDA gives TensorRT no builder. It says why in a warning."""

    class Builder:
        def __init__(self, log):
            log.log(rtx.package.ILogger.Severity.WARNING, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    trt = types.SimpleNamespace(ILogger=rtx.package.ILogger, Builder=Builder)
    with pytest.raises(
        EngineError, match=r"cannot start \(pybind11.*nullptr; warning: CUDA init.* error: 35\); install"
    ):
        check_starts(rtx._replace(package=trt))
    check_starts(rtx)


def test_a_profile_for_every_batch_is_in_the_plan(rtx, graph, tmp_path):
    build_plan(graph, rtx, BuildOptions(batches=(1, 3, 7), targets=("sm_89",), log=tmp_path / "log.txt"))
    found = re.findall(r"optimization profile number (\d) \[", (tmp_path / "log.txt").read_text(encoding="utf-8"))
    assert found == ["0", "1", "2"]


def test_the_profiles_of_a_served_engine_take_every_number_of_faces_once(rtx, graph, monkeypatch):
    """A server joins requests, so that any number of faces up to the largest may come."""
    taken: list[int] = []
    make = plan_builder._profile

    def profile(builder, network, fewest, most):
        taken.extend(range(fewest, most + 1))
        made = make(builder, network, fewest, most)
        assert [shape[0] for shape in made.get_shape("image")] == [fewest, most, most]
        return made

    monkeypatch.setattr(plan_builder, "_profile", profile)
    build_plan(graph, rtx, BuildOptions(batches=(1, 3, 7), targets=("sm_89",), any_batch=True))
    assert taken == [1, 2, 3, 4, 5, 6, 7]


def test_two_plans_may_be_built_one_after_the_other(rtx, graph):
    """TensorRT crashes if its objects are deleted in the wrong order, and would end this process."""
    for _ in range(2):
        assert build_plan(graph, rtx, BuildOptions(batches=(1,)))


def test_a_graph_that_mixes_half_and_float_is_refused_with_tensorrts_error(rtx, graph):
    """Strongly typed: nothing is cast behind one's back."""
    model = onnx.load_from_string(graph)
    (cast,) = (node for node in model.graph.node if node.name == "tail/Cast")
    for node in model.graph.node:
        node.input[:] = [cast.input[0] if name == cast.output[0] else name for name in node.input]
    model.graph.node.remove(cast)
    with pytest.raises(EngineError, match=r"does not read this graph .*; export it again"):
        build_plan(model.SerializeToString(), rtx)


@pytest.mark.parametrize("content", [b"", b"no graph at all"])
def test_bytes_that_are_no_graph_are_refused(rtx, content):
    with pytest.raises(EngineError, match="does not read this graph"):
        build_plan(content, rtx)


def test_a_gpu_that_rtx_does_not_support_is_refused_with_the_supported_ones(rtx, graph):
    with pytest.raises(EngineError, match=r"sm_87; it supports sm_75.*sm_120"):
        build_plan(graph, rtx, BuildOptions(targets=("sm_87",)))


@pytest.mark.parametrize("batches", [(), (0, 1, 2), (2, 1, 4), (1, 4, 4)])
def test_batches_out_of_order_are_refused(rtx, graph, batches):
    with pytest.raises(EngineError, match="from 1 on, ascending, each once"):
        build_plan(graph, rtx, BuildOptions(batches=batches))


def test_options_of_the_other_backend_are_refused(rtx, graph, tmp_path):
    with pytest.raises(EngineError, match="--backend rtx"):
        build_plan(graph, rtx._replace(name="tensorrt"), BuildOptions(targets=("sm_89",)))
    with pytest.raises(EngineError, match="no timing cache"):
        build_plan(graph, rtx, BuildOptions(timing_cache=tmp_path / "cache"))


@pytest.mark.parametrize(("text", "name"), [("sm_89", "SM89"), ("SM120", "SM120"), ("8.6", "SM86"), ("12.0", "SM120")])
def test_compute_capabilities_are_read_in_every_usual_form(text, name):
    assert capability(text) == name


@pytest.mark.parametrize("text", ["", "ampere", "sm_8", "8.6.1", "sm_8x"])
def test_text_that_is_no_compute_capability_is_refused(text):
    with pytest.raises(EngineError, match="expected one such as sm_89"):
        capability(text)


@pytest.mark.parametrize(
    ("backend", "remedy"), [("tensorrt", "JetPack"), ("rtx", "tensorrt_rtx_cu12"), ("auto", "JetPack.* or ")]
)
def test_a_backend_that_is_not_installed_is_refused_with_what_to_install(backend, remedy, monkeypatch):
    monkeypatch.setattr(tensorrt_engine, "MODULES", {"tensorrt": ("no_such_module",), "rtx": ("nor_this_one",)})
    with pytest.raises(EngineError, match=f"is not installed; .*{remedy}"):
        load_backend(backend)


def test_a_backend_that_is_installed_but_broken_is_not_reported_as_missing(monkeypatch, tmp_path):
    (tmp_path / "broken_tensorrt.py").write_text("raise OSError('libnvinfer.so.10: not found')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tensorrt_engine, "MODULES", {"tensorrt": ("broken_tensorrt",)})
    with pytest.raises(EngineError, match=r"cannot be imported .*libnvinfer.so.10: not found"):
        load_backend("tensorrt")


def test_ctrl_c_ends_a_build(rtx, graph, tmp_path):
    """In a process of its own: the signal is sent after TensorRT has begun."""
    (tmp_path / "graph.onnx").write_bytes(graph)
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from iern.export.engine.plan_builder import build_plan, load_backend
        backend = load_backend("rtx")
        graph = Path(sys.argv[1]).read_bytes()
        while True:
            build_plan(graph, backend, on_step=lambda *step: print("step", flush=True))
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "graph.onnx")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "step\n"
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors, f"{process.returncode} after {time.monotonic() - started:.0f} s"


def test_no_file_is_left_when_a_build_fails(rtx, tmp_path):
    with pytest.raises(EngineError):
        build_plan(b"no graph", rtx, BuildOptions(log=tmp_path / "log.txt"))
    assert [path.name for path in Path(tmp_path).iterdir()] == ["log.txt"]
