"""How much faster the 8-bit file is: measured in turns, and kept."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from doubles.tiny_artifact import tiny_model
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.backends.speed_record import (
    MOST_ENTRIES,
    key_of,
    read_speed_up,
    record_path,
    record_speed_up,
    speed_up,
)
from iern.runtime.system.processor import Processor

HERE = Processor("a CPU", True, ("avx512_vnni",))
KEY = key_of(HERE, "1.32.0", 2, "a" * 64, "b" * 64)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Clocks:
    """Sessions that take processor time and time, on clocks of their own."""

    def __init__(self, monkeypatch) -> None:
        self.clock = self.processor = 0.0
        self.calls: list[str] = []
        monkeypatch.setattr(time, "process_time", lambda: self.processor)
        monkeypatch.setattr(time, "perf_counter", lambda: self.clock)

    def session(self, name: str, processor: float, clock: float = 0.0):
        def call(face) -> None:
            self.calls.append(name)
            self.processor += processor * (100 if len(self.calls) == 5 else 1)  # one slow call
            self.clock += clock

        return call


def test_the_speed_up_compares_medians_of_calls_in_turn(monkeypatch):
    clocks = Clocks(monkeypatch)
    given, small = clocks.session("given", 3.0), clocks.session("small", 2.0)
    assert speed_up(given, small, None) == pytest.approx(1.5)
    assert clocks.calls == ["given", "small"] * 31


def test_what_other_programs_take_from_the_processor_does_not_count(monkeypatch):
    clocks = Clocks(monkeypatch)
    given, small = clocks.session("given", 3.0, clock=0.001), clocks.session("small", 2.0, clock=0.02)
    assert speed_up(given, small, None) == pytest.approx(1.5)


@pytest.mark.parametrize(("clock", "rounds"), [(0.06, 5), (5.0, 1)])
def test_no_call_begins_after_the_time_is_over_but_the_first_of_each(monkeypatch, clock, rounds):
    clocks = Clocks(monkeypatch)
    speed_up(clocks.session("given", 3.0, clock), clocks.session("small", 2.0, clock), None)
    assert clocks.calls == ["given", "small"] * (1 + rounds)


def test_a_real_session_against_itself_is_about_as_fast():
    face = np.zeros((1, 32, 32, 3), np.uint8)
    with OnnxSession(tiny_model(), "cpu", threads=1) as session:
        assert 0.2 < speed_up(session, session, face) < 5


def test_a_recorded_factor_is_read_and_others_stay():
    assert read_speed_up(KEY) is None
    record_speed_up(KEY, 1.93456)
    record_speed_up("another", 0.8)
    record_speed_up(KEY, 2.1)
    assert (read_speed_up(KEY), read_speed_up("another")) == (2.1, 0.8)
    assert [path.name for path in record_path().parent.iterdir()] == ["speed.json"]


def test_a_key_changes_with_everything_that_the_speed_depends_on():
    keys = {
        KEY,
        key_of(Processor("another CPU", True, ("avx512_vnni",)), "1.32.0", 2, "a" * 64, "b" * 64),
        key_of(Processor("a CPU", True, ("avx512_vnni", "amx_int8")), "1.32.0", 2, "a" * 64, "b" * 64),
        key_of(HERE, "1.33.0", 2, "a" * 64, "b" * 64),
        key_of(HERE, "1.32.0", 4, "a" * 64, "b" * 64),
        key_of(HERE, "1.32.0", 2, "c" * 64, "b" * 64),
        key_of(HERE, "1.32.0", 2, "a" * 64, "c" * 64),
    }
    assert len(keys) == 7


def test_the_oldest_entries_are_dropped():
    for number in range(MOST_ENTRIES + 3):
        record_speed_up(str(number), 1.0)
    found = json.loads(record_path().read_text(encoding="utf-8"))
    assert list(found) == [str(number) for number in range(3, MOST_ENTRIES + 3)]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", b"\xff", *(json.dumps({KEY: value}) for value in ("2", True, 0.0, -1.0, float("nan")))]
)
def test_a_damaged_record_counts_as_none_and_is_replaced(content):
    record_path().parent.mkdir(parents=True)
    record_path().write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_speed_up(KEY) is None
    record_speed_up(KEY, 1.5)
    assert read_speed_up(KEY) == 1.5


def test_a_folder_that_cannot_be_written_is_no_error(cache):
    cache.write_bytes(b"a file in place of the folder")
    record_speed_up(KEY, 1.5)
    assert read_speed_up(KEY) is None
    assert cache.read_bytes() == b"a file in place of the folder"


def test_without_a_home_folder_nothing_is_kept_and_nothing_fails(monkeypatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    record_speed_up(KEY, 1.5)
    assert read_speed_up(KEY) is None
