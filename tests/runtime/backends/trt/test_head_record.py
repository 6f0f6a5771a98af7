"""The faster head is recorded for each GPU and TensorRT, and an unreadable record counts as no measurement."""

from __future__ import annotations

import json

import pytest

from iern.runtime.backends.trt.head_record import read_head, record_head, record_path

ORIN, RTX = "Orin", "NVIDIA GeForce RTX 4090"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_a_measurement_the_head_is_native():
    assert read_head(ORIN, "10.3.0") == "native"


def test_a_record_counts_for_that_gpu_and_that_tensorrt_only():
    record_head(ORIN, "10.3.0", "kernel")
    record_head(RTX, "10.3.0", "native")
    record_head(RTX, "11.4.0", "kernel")
    assert [read_head(ORIN, "10.3.0"), read_head(RTX, "10.3.0"), read_head(RTX, "11.4.0")] == [
        *("kernel", "native", "kernel")
    ]
    assert read_head(ORIN, "11.4.0") == "native"
    record_head(ORIN, "10.3.0", "native")
    assert read_head(ORIN, "10.3.0") == "native"


def test_the_file_is_readable_json_in_the_users_cache(cache):
    assert record_head(ORIN, "10.3.0", "kernel") == record_path() == cache / "iern" / "heads.json"
    assert json.loads(record_path().read_text(encoding="utf-8")) == {"Orin, TensorRT 10.3.0": "kernel"}
    assert [path.name for path in record_path().parent.iterdir()] == ["heads.json"], "no temporary file is left"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", '{"Orin, TensorRT 10.3.0": "plugin"}', '{"Orin, TensorRT 10.3.0": ["kernel"]}']
)
def test_a_damaged_file_counts_as_none_and_the_next_record_replaces_it(content):
    record_path().parent.mkdir(parents=True)
    record_path().write_text(content, encoding="utf-8")
    assert read_head(ORIN, "10.3.0") == "native"
    record_head(ORIN, "10.3.0", "kernel")
    assert read_head(ORIN, "10.3.0") == "kernel"


def test_a_file_that_is_not_text_counts_as_none():
    record_path().parent.mkdir(parents=True)
    record_path().write_bytes(b"\xff\xfe\x00")
    assert read_head(ORIN, "10.3.0") == "native"


def test_a_head_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="head is 'plugin'; expected one of native, kernel"):
        record_head(ORIN, "10.3.0", "plugin")
