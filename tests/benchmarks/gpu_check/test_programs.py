"""The GPU check's programs: builds, loops and tests in processes of their own, which end when the time is up."""

from __future__ import annotations

import importlib.util
import sys
import textwrap

import pytest

from benchmarks.gpu_check import programs
from benchmarks.gpu_check.programs import (
    build_engine,
    compare_loops,
    engine_facts,
    gpu_test_files,
    run_gpu_tests,
    run_loop,
    run_program,
)
from doubles.tiny_artifact import tiny_model
from doubles.tiny_export import exported_tiny
from doubles.tiny_network import tiny_network
from iern.runtime.backends.trt.engine_file import read_engine
from iern.runtime.errors import EngineError


def record(frame: int, *faces: tuple[float, float], box: tuple[int, ...] = (1, 2, 30, 40)) -> dict:
    """A record of the loop with faces of these raw probabilities."""
    found = [
        {"box": list(box), "probabilities": {"happy": 0.5, "sad": 0.5}, "raw_probabilities": {"happy": a, "sad": b}}
        for a, b in faces
    ]
    times = {"detect": 3.0, "preprocess": 1.0, "infer": float(frame), "total": 9.0, "age": 9.0}
    return {"frame": frame, "faces": found, "latency_ms": times}


def test_two_loops_are_compared_face_by_face_before_smoothing():
    reference = [record(0), record(1, (0.7, 0.3)), record(2, (0.6, 0.4), (0.2, 0.8)), record(3, (0.5, 0.5))]
    other = [record(0), record(1, (0.7, 0.3)), record(2, (0.6, 0.4), (0.21, 0.79)), record(3, (0.5, 0.5))]
    found = compare_loops(other, reference)
    assert (found["frames"], found["faces"]) == (4, 4)
    assert found["probability_error"] == pytest.approx(0.01)
    assert found["milliseconds"]["this"] == {"detect": 3, "preprocess": 1, "infer": 2, "total": 9}


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([record(0, (0.7, 0.3))], "wrote 1 records, the one on the CPU 2"),
        ([record(0, (0.7, 0.3)), record(1)], "frame 1: the loop found faces at "),
        ([record(0, (0.7, 0.3)), record(1, (0.7, 0.3), box=(1, 2, 30, 44))], "frame 1: the loop found faces at "),
        ([record(0, (0.7, 0.3)), record(1, (0.4, 0.6))], "probabilities differ by 3.0e-01"),
        ([record(0, (0.7, 0.3)), record(1, (float("nan"), 0.3))], "probabilities differ by nan"),
    ],
)
def test_a_loop_with_other_faces_or_answers_is_refused(records, found):
    with pytest.raises(EngineError, match=found):
        compare_loops(records, [record(0, (0.7, 0.3)), record(1, (0.7, 0.3))])


def test_a_program_ends_when_the_time_is_up():
    with pytest.raises(EngineError, match="stopped after 0 s, which were left of --seconds"):
        run_program([sys.executable, "-c", "import time; time.sleep(600)"], left=0.1)


def test_the_error_of_an_engine_that_cannot_be_built_is_the_commands(tmp_path):
    if not any(importlib.util.find_spec(name) for name in ("tensorrt_rtx_bindings", "tensorrt")):
        pytest.skip("neither TensorRT nor TensorRT for RTX is installed")
    with pytest.raises(EngineError, match=r"export/to_trt\.py, status 2: .*--head: invalid choice"):
        build_engine("no such head", tmp_path)


@pytest.mark.slow
def test_an_engine_is_built_by_the_command_and_must_have_been_compared_with_its_file(tmp_path):
    """With the TensorRT that is installed. The one for RTX needs no GPU, and cannot compare without one."""
    if not any(importlib.util.find_spec(name) for name in ("tensorrt_rtx_bindings", "tensorrt")):
        pytest.skip("neither TensorRT nor TensorRT for RTX is installed")
    source = tmp_path / "tiny.onnx"
    source.write_bytes(exported_tiny(tiny_network()))
    path = build_engine("kernel", tmp_path, source)
    manifest = read_engine(path).manifest
    assert (manifest.head, manifest.batches) == ("kernel", (1, 2, 4, 8, 16))
    if manifest.parity:
        assert engine_facts(path)["parity"]["agreement"] >= 0.995
    else:
        with pytest.raises(EngineError, match="could not run here, so its outputs are not checked"):
            engine_facts(path)


@pytest.mark.slow
def test_the_loop_runs_on_the_bundled_clip_and_writes_the_same_records_twice(tmp_path):
    model = tmp_path / "tiny.onnx"
    model.write_bytes(tiny_model())
    first, second = (run_loop(model, tmp_path / name, ("--provider", "cpu")) for name in ("a.jsonl", "b.jsonl"))
    found = compare_loops(first, second)
    assert found["faces"] >= found["frames"] > 100
    assert found["probability_error"] < 1e-4
    with pytest.raises(EngineError, match=r"webcam\.py, status 1: .*no such file"):
        run_loop(tmp_path / "absent.onnx", tmp_path / "c.jsonl")


@pytest.mark.slow
def test_the_outcome_of_every_test_is_counted(tmp_path, monkeypatch):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(
        textwrap.dedent(
            """
            import pytest
            pytestmark = pytest.mark.gpu
            def test_right(): pass
            def test_wrong(): assert 1 == 2
            @pytest.fixture
            def broken(): raise OSError("gone")
            def test_error(broken): pass
            def test_left_out(): pytest.skip("no TensorRT")
            """
        ),
        encoding="utf-8",
    )
    monkeypatch.setattr(programs, "ROOT", tmp_path)
    found = run_gpu_tests(tmp_path)
    assert (found["status"], found["counts"]) == (1, {"passed": 1, "failed": 2, "skipped": 1})
    assert sorted(message[:8] for message in found["cases"].values()) == ["failed: ", "failed: ", "skipped:"]
    assert any("no TensorRT" in message for message in found["cases"].values())


def test_the_files_with_tests_for_a_gpu_are_found():
    names = {path.name for path in gpu_test_files()}
    assert {"test_torch_operator.py", "test_batches.py", "test_session_on_gpu.py"} <= names
