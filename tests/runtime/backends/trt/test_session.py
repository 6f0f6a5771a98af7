"""The errors of the TensorRT session on a machine that cannot run it, and the members of TensorRT that it uses.

The tests over doubles show that it runs.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from doubles.gpu import engine_double
from doubles.gpu.engine_double import ICudaEngine, IExecutionContext, IRuntimeConfig, Runtime
from doubles.gpu.made_up_manifest import made_up_manifest
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.trt import plan as trt_plan
from iern.runtime.backends.trt.cuda_context import cuda_device
from iern.runtime.backends.trt.engine_file import write_engine
from iern.runtime.backends.trt.plan import load_engine, load_tensorrt, make_logger
from iern.runtime.doctor.findings import _where_it_runs
from iern.runtime.errors import EngineError, SessionError
from repository import ROOT

VARIABLES = {
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "self._context": "IExecutionContext",
    "config": "IRuntimeConfig",
}
"""Variables of the source -> their classes."""
FILES = ("plan.py", "contract.py", "batch.py", "session.py")
RTX_ONLY = {
    "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
    "DynamicShapesKernelSpecializationStrategy.EAGER",
}
TENSORRT_8 = {
    "ICudaEngine.create_execution_context_without_device_memory",
    "ICudaEngine.device_memory_size",
}
"""Its own ways. That 8.6 has them: tests/export/engine/test_tensorrt8_over_stubs.py."""
RTX_OR_NEWER = {"ICudaEngine.create_runtime_config", "IRuntimeConfig.set_execution_context_allocation_strategy"}


@pytest.fixture
def engine(tmp_path) -> Path:
    path = tmp_path / "tiny.engine"
    write_engine(path, b"plan", made_up_manifest(tmp_path / "tiny.onnx"))
    return path


def members_called() -> set[str]:
    """Return `Class.member` for every member of TensorRT that the session uses, read from its source."""
    found = set()
    for name in FILES:
        for node in ast.walk(ast.parse((ROOT / "runtime" / "backends" / "trt" / name).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            owner = ast.unparse(node.value)
            if owner in VARIABLES:
                found.add(f"{VARIABLES[owner]}.{node.attr}")
            elif owner.startswith("trt."):
                found.add(f"{owner.removeprefix('trt.')}.{node.attr}")
    return found


@pytest.fixture(scope="module")
def table() -> dict[str, str]:
    """Member -> 1 or 0 for each version."""
    values = json.loads((ROOT / "tests" / "doubles" / "gpu" / "tensorrt_api.json").read_text(encoding="utf-8"))
    assert len(values["versions"]) == 8 and values["versions"][-1] == "rtx"
    return values["members"]


def test_every_member_that_is_used_exists_in_every_tensorrt_from_10_3_to_11_and_in_rtx(table):
    called = {name.replace("ILogger.Severity.", "ILogger.") for name in members_called()} - {"ILogger.__init__"}
    assert {"Runtime.deserialize_cuda_engine", "IExecutionContext.execute_async_v3", "TensorFormat.LINEAR"} <= called
    lacking = {name for name in called if table.get(name) != 8 * "1"}
    assert lacking == RTX_ONLY | RTX_OR_NEWER | TENSORRT_8
    assert all(table[name].endswith("1") for name in lacking - TENSORRT_8)


def test_the_double_of_tensorrt_offers_nothing_that_tensorrt_lacks(table):
    for kind in (Runtime, ICudaEngine, IExecutionContext, IRuntimeConfig):
        members = {f"{kind.__name__}.{name}" for name in vars(kind) if not name.startswith("_")}
        assert members - table.keys() <= {"IRuntimeConfig.strategy", "ICudaEngine.graph"}
    for name in ("DataType", "TensorIOMode", "TensorFormat", "ExecutionContextAllocationStrategy"):
        assert {f"{name}.{value.name}" for value in getattr(engine_double, name)} <= table.keys()


@pytest.mark.parametrize("provider", ["cpu", "cuda", "tensorrt"])
def test_an_engine_is_refused_with_a_provider_of_onnxruntime(engine, provider):
    with pytest.raises(SessionError, match=rf"{engine}: is a TensorRT engine.*leave out the provider {provider}"):
        open_session(engine, provider)


def test_the_doctor_reports_where_an_engine_runs_and_why_it_is_slow():
    note = "without a CUDA graph, which would be faster (why)"
    assert _where_it_runs({"provider": "tensorrt, head kernel", "note": ""}, {}) == ("tensorrt, head kernel", "")
    slow = {"provider": "tensorrt, head kernel", "note": note}
    assert _where_it_runs(slow, {}) == (f"tensorrt, head kernel, {note}", "")


@pytest.mark.skipif(importlib.util.find_spec("pycuda") is not None, reason="pycuda is installed")
def test_without_pycuda_the_error_has_what_to_install(engine):
    with pytest.raises(SessionError, match=r"needs pycuda, which is not installed; pip install pycuda .*JetPack"):
        open_session(engine)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("raise ImportError('libcuda.so.1: cannot open shared object file')", "libcuda.so.1: cannot open"),
        ("import warnings; warnings.warn('does not fit'); raise ImportError('cuArrayCreate_v2')", "cuArrayCreate_v2"),
        ("import pycuda.nothing", "No module named 'pycuda.nothing'"),
        ("raise RuntimeError('numpy.core.multiarray failed')", "multiarray failed"),
    ],
)
def test_a_broken_pycuda_is_not_reported_as_a_missing_one(engine, monkeypatch, tmp_path, recwarn, source, found):
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").touch()
    (tmp_path / "pycuda" / "driver.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    cuda_device.cache_clear()
    with pytest.raises(SessionError, match=rf"pycuda cannot be imported \(.*{found}.*\); .*--force-reinstall"):
        open_session(engine)
    assert not recwarn.list
    for name in ("pycuda", "pycuda.driver"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("backend", "remedy"), [("tensorrt", "JetPack"), ("rtx", "tensorrt_rtx_cu12_bindings")])
def test_a_backend_that_is_not_installed_is_named_with_what_to_install(monkeypatch, backend, remedy):
    monkeypatch.setattr(trt_plan, "MODULES", {"tensorrt": ("no_such_module",), "rtx": ("nor_this_one",)})
    with pytest.raises(SessionError, match=f"is not installed; .*{remedy}"):
        load_tensorrt(backend)


def test_a_broken_backend_is_not_reported_as_a_missing_one(monkeypatch, tmp_path):
    (tmp_path / "broken_runtime.py").write_text("raise OSError('libnvinfer.so.10: not found')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(trt_plan, "MODULES", {"tensorrt": ("broken_runtime",)})
    with pytest.raises(SessionError, match=r"cannot be imported .*libnvinfer.so.10: not found"):
        load_tensorrt("tensorrt")


@pytest.mark.parametrize(("plan", "reason"), [(b"no plan at all" * 100, "magicTag"), (b"", "")])
def test_the_error_for_a_file_that_is_not_a_plan_has_the_words_of_the_real_tensorrt_for_rtx(plan, reason):
    if not any(importlib.util.find_spec(name) for name in trt_plan.MODULES["rtx"]):
        pytest.skip("TensorRT for RTX is not installed")
    rtx = load_tensorrt("rtx")
    with pytest.raises(EngineError, match=rf"TensorRT cannot load the plan \(.*{reason}"):
        load_engine(rtx, make_logger(rtx), plan)
