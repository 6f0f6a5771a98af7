"""The loop's latencies: the percentiles are correct, and memory is bounded."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from iern.runtime.system import latency
from iern.runtime.system.latency import Latency, LoopStats, stopwatch


def figures(lines: list[str]) -> dict[str, list[float]]:
    """Stage -> p50, p90, p99, read from the lines of a summary."""
    return {name: [float(value) for value in values] for name, *values in map(str.split, lines[2:])}


def test_the_summary_has_the_percentiles_of_each_stage():
    random = np.random.default_rng(0)
    rows = random.uniform(1, 100, (500, 4))
    stats = LoopStats()
    for row in rows:
        stats.add(Latency(*row), faces=2)
        stats.add_age(row[3] + 5)
    lines = stats.summary("cpu", live=True)
    assert lines[0].startswith("500 frames, 1000 faces, ")
    assert lines[0].endswith(" frames/s, cpu")
    assert lines[1].split() == ["latency,", "ms", "p50", "p90", "p99"]
    columns = [*rows.T[:3], rows[:, :3].sum(axis=1), rows[:, 3], rows[:, 3] + 5]
    names = ["detect", "preprocess", "infer", "total", "age", "shown"]
    for name, column in zip(names, columns, strict=True):
        assert figures(lines)[name] == pytest.approx(np.percentile(column, (50, 90, 99)), abs=0.051)


def test_frames_without_a_face_do_not_make_inference_look_fast():
    stats = LoopStats()
    for _ in range(9):
        stats.add(Latency(10, 0, 0, 10), faces=0)
    stats.add(Latency(10, 2, 30, 42), faces=1)
    found = figures(stats.summary("cpu", live=False))
    assert found["infer"] == [30, 30, 30]
    assert found["preprocess"] == [2, 2, 2]
    assert found["detect"] == [10, 10, 10]
    assert "age" not in found


def test_a_run_without_faces_or_without_frames_has_a_summary_too():
    stats = LoopStats()
    assert stats.summary("cpu", live=False) == ["no frames"]
    assert stats.rate == 0
    stats.add(Latency(10, 0, 0, 10), faces=0)
    lines = stats.summary("cpu", live=False)
    assert lines[0].startswith("1 frame, 0 faces, ")
    assert "infer        no face" in lines


def test_the_rate_follows_the_clock():
    stats = LoopStats()
    for _ in range(5):
        stats.add(Latency(0, 0, 0, 0), faces=0)
        time.sleep(0.05)
    assert 2 < stats.rate <= 20


def test_memory_is_bounded_over_a_long_run(monkeypatch):
    monkeypatch.setattr(latency, "KEPT_FRAMES", 10)
    stats = LoopStats()
    for milliseconds in (1000.0,) * 50 + (1.0,) * 10:
        stats.add(Latency(milliseconds, 0, 0, 0), faces=1)
    assert figures(stats.summary("cpu", live=False))["detect"] == [1, 1, 1]
    assert stats.frames == 60


def test_all_memory_for_latencies_is_allocated_at_the_start():
    stats = LoopStats()
    tracemalloc.start()
    try:
        for _ in range(20_000):
            stats.add(Latency(1, 2, 3, 4), faces=1)
            stats.add_age(5)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 50_000


def test_a_stopwatch_measures_each_lap_separately():
    lap = stopwatch()
    time.sleep(0.05)
    first, second = lap(), lap()
    assert 49 < first < 1000
    assert second < first
