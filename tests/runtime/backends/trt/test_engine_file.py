"""The files of an engine belong together and to a machine. Otherwise they are refused with the command to rebuild."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from doubles.gpu.made_up_manifest import ORIN, made_up_manifest
from doubles.tiny_artifact import tiny_artifact, tiny_model
from iern.cpp_ext.tail_weights import TailWeights
from iern.runtime.backends.trt.engine_file import (
    EngineManifest,
    Gpu,
    build_arguments,
    check_fits,
    manifest_path,
    read_engine,
    tail_path,
    write_engine,
)
from iern.runtime.errors import ArtifactError, EngineError
from iern.runtime.session import batch_sizes

TAIL = TailWeights(np.arange(3 * 4 * 10, dtype=np.float32).reshape(3, 4, 10), np.ones(3, np.float32))


@pytest.fixture
def manifest(tmp_path) -> EngineManifest:
    onnx = tmp_path / "tiny.fp16.onnx"
    onnx.write_bytes(tiny_model())
    return made_up_manifest(onnx, head="kernel")


@pytest.fixture
def engine(tmp_path, manifest):
    path = tmp_path / "tiny.fp16.engine"
    write_engine(path, b"plan", manifest, TAIL)
    return path


def edit(engine, **values) -> None:
    path = manifest_path(engine)
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def test_an_engine_is_read_as_it_was_written(engine, manifest):
    found = read_engine(engine)
    assert found.plan == engine.read_bytes() == b"plan"
    assert found.artifact == tiny_artifact()
    assert dataclasses.replace(found.manifest, plan_sha256="", tail_sha256="") == manifest
    assert found.tail is not None
    np.testing.assert_array_equal(found.tail.weight, TAIL.weight)
    np.testing.assert_array_equal(found.tail.bias, TAIL.bias)


def test_writing_an_engine_with_a_native_head_removes_the_weights_of_an_earlier_one(engine, manifest):
    write_engine(engine, b"whole plan", dataclasses.replace(manifest, head="native"))
    assert not tail_path(engine).exists()
    assert read_engine(engine).tail is None


def test_the_exported_file_need_not_be_beside_it(engine, tmp_path):
    (tmp_path / "tiny.fp16.onnx").unlink()
    assert read_engine(engine).artifact == tiny_artifact()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda engine: engine.unlink(), "no such file"),
        (lambda engine: engine.write_bytes(b"another"), "is not the plan that its manifest describes"),
        (lambda engine: manifest_path(engine).unlink(), "cannot be read .*copy it along"),
        (lambda engine: manifest_path(engine).write_text("{", encoding="utf-8"), "damaged"),
        (lambda engine: manifest_path(engine).write_text("[]", encoding="utf-8"), "damaged"),
        (lambda engine: edit(engine, format_version=99), "has format 99, this runtime reads 2"),
        (lambda engine: edit(engine, surplus=1), "damaged"),
        (lambda engine: edit(engine, gpu={"name": "x"}), "damaged"),
        (lambda engine: edit(engine, head="other"), "head other, .*does not support"),
        (lambda engine: edit(engine, backend="other"), "backend other, .*does not support"),
        (lambda engine: edit(engine, batches=[]), "does not support"),
        (lambda engine: tail_path(engine).unlink(), "cannot be read"),
        (lambda engine: tail_path(engine).write_bytes(b"PK"), "are not the weights"),
        (
            lambda engine: engine.with_name("tiny.fp16.onnx").write_bytes(tiny_model(seed=1)),
            r"was built from another tiny.fp16.onnx .*build it again: python -m iern.export.to_trt \S+tiny.fp16.onnx",
        ),
    ],
)
def test_files_that_do_not_belong_together_are_refused(engine, spoil, words):
    spoil(engine)
    with pytest.raises(ArtifactError, match=words) as refused:
        read_engine(engine)
    assert "again" in str(refused.value)


@pytest.mark.parametrize(
    ("tensorrt", "gpu", "words"),
    [
        ("10.7.0", ORIN, "built by TensorRT 10.3.0, here is 10.7.0"),
        ("10.3.0", Gpu("Orin Nano", "sm_87", "12.6"), r"built on Orin \(sm_87\), here is Orin Nano"),
        ("10.3.0", Gpu("Orin", "sm_110", "13.0"), r"here is Orin \(sm_110\)"),
    ],
)
def test_another_tensorrt_or_gpu_is_refused_with_the_command_to_rebuild(engine, manifest, tensorrt, gpu, words):
    with pytest.raises(EngineError, match=rf"{words}.*to_trt .*tiny.fp16.onnx --backend tensorrt --head kernel "):
        check_fits(engine, manifest, tensorrt, gpu)


def test_the_command_to_rebuild_asks_for_the_same_batches_and_keeps_tensorrts_times_beside_the_engine(engine, manifest):
    words = build_arguments(engine, manifest)
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        "--backend": "tensorrt",
        "--head": "kernel",
        "--max-batch": "16",
        "--output": str(engine),
        "--timing-cache": f"{engine}.times",
    }
    assert tuple(batch_sizes(16)) == manifest.batches
    assert "--timing-cache" not in build_arguments(engine, dataclasses.replace(manifest, backend="rtx"))


def test_a_newer_driver_is_accepted(engine, manifest):
    check_fits(engine, manifest, "10.3.0", dataclasses.replace(ORIN, cuda="12.8"))


def test_a_plan_for_named_gpus_fits_these_only_and_a_plan_for_any_gpu_fits_all(engine, manifest):
    portable = dataclasses.replace(manifest, backend="rtx", tensorrt="1.7.1", gpu=None)
    named = dataclasses.replace(portable, targets=("sm_89", "sm_120"))
    check_fits(engine, portable, "1.7.1", Gpu("any", "sm_86", "13.0"))
    check_fits(engine, named, "1.7.1", Gpu("RTX 4090", "sm_89", "13.0"))
    with pytest.raises(EngineError, match="built for sm_89, sm_120, here is RTX 3090"):
        check_fits(engine, named, "1.7.1", Gpu("RTX 3090", "sm_86", "13.0"))


def test_nothing_is_left_of_an_interrupted_write(engine, manifest, monkeypatch):
    before = {path.name: path.read_bytes() for path in engine.parent.iterdir()}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_engine(engine, b"new plan", manifest, TAIL)
    assert {path.name: path.read_bytes() for path in engine.parent.iterdir()} == before
