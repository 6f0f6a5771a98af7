"""Joules per frame: sums of made readings against numpy and whole numbers, and the loop with made sensors."""

from __future__ import annotations

import functools
import itertools
import json
import random

import numpy as np
import pytest

from iern.runtime import webcam
from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.power import energy as module
from iern.runtime.power.energy import MOST_FAILURES, EnergyMeter, energy_lines, find_sensors
from iern.runtime.power.sensors import EnergyCounter, PowerSensor

RANGE = 262_143_328_850
"""Microjoules at which the made counter begins again."""


class Script:
    """Readings one after the other; an exception is raised."""

    def __init__(self, *values: float | Exception) -> None:
        self.values = list(values)
        self.calls = 0

    def __call__(self) -> float:
        self.calls += 1
        value = self.values.pop(0)
        if isinstance(value, Exception):
            raise value
        return value


def measured(sensor, times, frames, faces):
    """What a meter adds up, read at `times`, when the loop is at `frames` and `faces`."""
    clock, counts = iter(times), iter(zip(frames, faces, strict=True))
    meter = EnergyMeter([sensor], lambda: next(counts), clock=lambda: next(clock))
    for _ in times:
        meter.read()
    return meter.energies[0]


def test_powers_are_summed_by_the_trapezoidal_rule():
    generator = np.random.default_rng(0)
    times = np.cumsum(generator.uniform(0.3, 0.7, 50)).tolist()
    watts = generator.uniform(4, 40, 50).tolist()
    frames, faces = range(3, 53), range(5, 205, 4)
    found = measured(PowerSensor("rail", Script(*watts)), times, frames, faces)
    expected = np.trapezoid(watts, times)
    assert found.joules == pytest.approx(expected)
    assert (found.frames, found.faces) == (49, 196)
    assert found.per_frame == pytest.approx(expected / 49)
    assert found.per_face == pytest.approx(expected / 196)
    assert found.watts == pytest.approx(expected / (times[-1] - times[0]))


def test_a_counter_that_begins_again_loses_nothing():
    generator = random.Random(0)
    steps = [generator.randrange(0, RANGE) for _ in range(40)]
    register, readings = 17, [17]
    for step in steps:
        register = (register + step) % RANGE
        readings.append(register)
    assert sum(after < before for before, after in itertools.pairwise(readings)) > 10
    sensor = EnergyCounter("package", Script(*(value / 1e6 for value in readings)), RANGE / 1e6)
    found = measured(sensor, range(41), range(41), range(41))
    assert found.joules == pytest.approx(sum(steps) / 1e6, rel=1e-12)


def test_what_was_counted_before_the_first_reading_does_not_count():
    found = measured(EnergyCounter("gpu", Script(1000.0, 1006.0)), (5, 8), (10, 14), (0, 0))
    assert (found.joules, found.seconds, found.per_frame, found.per_face, found.watts) == (6.0, 3, 1.5, None, 2.0)


def test_a_sensor_that_disappears_keeps_its_joules_and_the_frames_of_that_time():
    gone = OSError(19, "No such device")
    script = Script(0.0, 8.0, *[gone] * MOST_FAILURES)
    times = range(2 + MOST_FAILURES + 3)
    found = measured(EnergyCounter("gpu", script), times, [10 * time for time in times], [0 for _ in times])
    assert (found.joules, found.frames, found.per_frame) == (8.0, 10, 0.8)
    assert found.problem == "no reading after 1 s: [Errno 19] No such device"
    assert script.calls == 2 + MOST_FAILURES, "it is not read again"


def test_a_reading_that_fails_once_is_bridged():
    script = Script(0.0, OSError("busy"), ValueError("no number"), 9.0)
    found = measured(EnergyCounter("gpu", script), range(4), range(4), range(4))
    assert (found.joules, found.frames, found.problem) == (9.0, 3, "")


def test_a_counter_without_a_range_that_is_set_back_ends_its_sum():
    found = measured(EnergyCounter("gpu", Script(5.0, 7.0, 1.0, 2.0)), range(4), range(4), range(4))
    assert (found.joules, found.frames) == (2.0, 1)
    assert found.problem == "no reading after 1 s: its counter began again"


def test_the_table_has_a_row_for_each_sensor_and_no_figure_where_nothing_was_counted():
    shown = measured(EnergyCounter("processor package-0", Script(0.0, 6.0)), (0, 3), (0, 4), (0, 8))
    empty = measured(PowerSensor("rail", Script(OSError("gone"))), (0,), (1,), (1,))
    head, first, second = energy_lines([shown, empty])
    assert head.split() == ["energy", "J/frame", "J/face", "W"]
    assert first.split() == ["processor", "package-0", "1.5000", "0.7500", "2.0"]
    assert second.split() == ["rail", "-", "-", "-"]
    assert len(head) == len(first) == len(second)
    assert energy_lines([]) == []


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with one RAPL counter, without NVIDIA's driver -> the file of the counter."""
    zone = tmp_path / "sys" / "class" / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    for name, value in {"name": "package-0", "energy_uj": "5000000", "max_energy_range_uj": str(RANGE)}.items():
        (zone / name).write_text(value, encoding="utf-8")
    find = functools.partial(find_sensors, tmp_path, str(tmp_path / "libnvidia-ml.so.1"))
    monkeypatch.setattr(module, "find_sensors", find)
    return zone / "energy_uj"


def run(tmp_path, *more: str) -> None:
    webcam.main(["--source", str(DEMO_CLIP), "--headless", "--max-frames", "12", "--power", *more])


def test_the_loop_prints_the_energy_and_writes_it_into_the_summary(machine, tmp_path, capsys, monkeypatch):
    read_once = EnergyMeter.read

    def read_and_spend(meter):
        read_once(meter)
        machine.write_text("11000000", encoding="utf-8")

    monkeypatch.setattr(EnergyMeter, "read", read_and_spend)
    run(tmp_path, "--summary", str(tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    (energy,) = found["energy"]
    assert energy["name"] == "processor package-0"
    assert energy["joules"] == pytest.approx(6.0)
    assert energy["frames"] == 11, "the first frame is before the first reading"
    assert energy["joules_per_frame"] == pytest.approx(6.0 / 11)
    (source,) = found["sources"]
    assert (source["frames"], source["source"]) == (12, DEMO_CLIP.name)
    printed = capsys.readouterr().out
    assert "energy is read from processor package-0; not from NVML (" in printed
    assert f"processor package-0{6 / 11:>12.4f}" in printed


def test_the_loop_goes_on_where_nothing_can_be_read_and_says_what_was_looked_for(machine, tmp_path, capsys):
    machine.unlink()
    run(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    (note,) = [line for line in lines if "--power" in line]
    assert note.startswith("note: --power finds nothing to read, and the loop runs without: NVML (")
    assert "a Jetson's INA3221 (no ina3221 in" in note
    assert "intel-rapl:0/energy_uj: No such file or directory" in note
    assert any(line.startswith("12 frames") for line in lines)
    assert not any("J/frame" in line for line in lines)
