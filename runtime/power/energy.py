"""Joules per frame and per face, measured in a thread while the loop runs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from iern.runtime.power.nvml import LIBRARY, nvml_sensors
from iern.runtime.power.sensors import EnergyCounter, Sensor
from iern.runtime.power.sysfs import ina_sensors, rapl_counters

PERIOD = 0.5
"""Seconds between two readings. A RAPL counter begins again after a quarter of an hour at 250 W, or later."""
MOST_FAILURES = 4
"""Failed readings in a row after which a sensor is given up."""

Counts = Callable[[], tuple[int, int]]
"""Gives the numbers of frames and faces until now."""


class Reading(NamedTuple):
    """A value of a sensor, joules or watts, and how far the loop was."""

    time: float
    """Seconds of a clock that only rises."""
    value: float
    frames: int
    faces: int


@dataclass
class Energy:
    """What one sensor measured from its first reading to its last, and what the loop did in that time."""

    name: str
    joules: float = 0.0
    seconds: float = 0.0
    frames: int = 0
    faces: int = 0
    problem: str = ""
    """Why there are no readings of the rest of the run. Empty if there are."""

    @property
    def per_frame(self) -> float | None:
        """Joules per frame. None without a frame."""
        return self.joules / self.frames if self.frames else None

    @property
    def per_face(self) -> float | None:
        """Joules per face, where a face counts in each frame. None without a face."""
        return self.joules / self.faces if self.faces else None

    @property
    def watts(self) -> float | None:
        """The mean power. None if no time passed."""
        return self.joules / self.seconds if self.seconds else None

    def text(self) -> str:
        """The figures in words."""
        figures = ((self.per_frame, "J a frame"), (self.per_face, "J a face"), (self.watts, "W"))
        known = [f"{value:.3g} {unit}" for value, unit in figures if value is not None]
        return "; ".join(filter(None, (", ".join(known), self.problem))) or "fewer than two readings"

    def to_dict(self) -> dict[str, Any]:
        """All figures, as plain types: those of the class, `joules_per_frame`, `joules_per_face` and `watts`."""
        return {
            "name": self.name,
            "joules": self.joules,
            "seconds": self.seconds,
            "frames": self.frames,
            "faces": self.faces,
            "joules_per_frame": self.per_frame,
            "joules_per_face": self.per_face,
            "watts": self.watts,
            "problem": self.problem,
        }


class EnergyMeter:
    """Reads sensors from the first frame to the last, and adds up what they measured. The loop calls `update`."""

    def __init__(self, sensors: Sequence[Sensor], counts: Counts, clock: Callable[[], float] = time.monotonic) -> None:
        self._accounts = [_Account(sensor) for sensor in sensors]
        self._counts = counts
        self._clock = clock
        self._begun = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)

    def update(self) -> None:
        """Begin after the first frame: what loads and warms up before it does not count. Later calls do nothing."""
        if self._accounts and not self._begun and self._counts()[0]:
            self._begun = True
            self.read()
            self._thread.start()

    def stop(self) -> None:
        """Take the last reading and end. Later calls do nothing."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._begun:
            self._thread.join()
            self.read()

    def read(self) -> None:
        """Read all sensors once."""
        for account in self._accounts:
            account.take(self._clock(), *self._counts())

    @property
    def energies(self) -> list[Energy]:
        """What each sensor measured until now; those with fewer than two readings have 0 joules and 0 seconds."""
        return [account.energy for account in self._accounts]

    def _run(self) -> None:
        while not self._ended.wait(PERIOD):
            self.read()


class _Account:
    """The sum of one sensor."""

    def __init__(self, sensor: Sensor) -> None:
        self.energy = Energy(sensor.name)
        self._sensor = sensor
        self._first: Reading | None = None
        self._last: Reading | None = None
        self._failures = 0

    def take(self, now: float, frames: int, faces: int) -> None:
        """Read the sensor. After MOST_FAILURES in a row, never again."""
        if self.energy.problem:
            return
        try:
            reading = Reading(now, self._sensor.read(), frames, faces)
        except (OSError, ValueError) as error:
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                self._give_up(str(error))
            return
        self._failures = 0
        if self._last is None:
            self._first = self._last = reading
            return
        joules = joules_between(self._sensor, self._last, reading)
        if joules is None:
            self._give_up("its counter began again")
            return
        assert self._first is not None
        self._last = reading
        self.energy.joules += joules
        self.energy.seconds = reading.time - self._first.time
        self.energy.frames = reading.frames - self._first.frames
        self.energy.faces = reading.faces - self._first.faces

    def _give_up(self, reason: str) -> None:
        self.energy.problem = f"no reading after {self.energy.seconds:.0f} s: {' '.join(reason.split())}"


def joules_between(sensor: Sensor, before: Reading, after: Reading) -> float | None:
    """Joules between two readings of a sensor. Of powers it is their mean times the seconds between them.

    None if a counter was set back that does not begin again by itself.
    """
    if not isinstance(sensor, EnergyCounter):
        return (after.time - before.time) * (before.value + after.value) / 2
    joules = after.value - before.value
    if joules >= 0:
        return joules
    return joules + sensor.range if sensor.range else None


def find_sensors(root: Path = Path("/"), library: str = LIBRARY) -> tuple[list[Sensor], str]:
    """All sensors of this machine, and a line that says what is read, what was looked for and what to do."""
    searches = (nvml_sensors(library), ina_sensors(root), rapl_counters(root))
    sensors = [sensor for search in searches for sensor in search.sensors]
    missing = ", ".join(search.missing for search in searches if search.missing)
    if sensors:
        found = f"energy is read from {', '.join(sensor.name for sensor in sensors)}"
        return sensors, f"{found}; not from {missing}" if missing else found
    return [], f"note: --power finds nothing to read, and the loop runs without: {missing}"


@contextlib.contextmanager
def metered(wanted: bool, counts: Counts) -> Iterator[EnergyMeter]:
    """A meter that measures until the block ends, and prints what it reads. If it is not `wanted`, it reads nothing."""
    sensors: Sequence[Sensor] = ()
    if wanted:
        sensors, line = find_sensors()
        print(line, flush=True)
    meter = EnergyMeter(sensors, counts)
    try:
        yield meter
    finally:
        meter.stop()


def energy_lines(energies: Sequence[Energy]) -> list[str]:
    """A table to print: a row for each sensor. No rows without a sensor."""
    if not energies:
        return []
    width = max(12, *(len(energy.name) + 2 for energy in energies))
    lines = [f"{'energy':<{width}}{'J/frame':>10}{'J/face':>10}{'W':>8}"]
    for energy in energies:
        figures = f"{_figure(energy.per_frame, 10, 4)}{_figure(energy.per_face, 10, 4)}{_figure(energy.watts, 8, 1)}"
        lines.append(f"{energy.name:<{width}}{figures}" + (f"  {energy.problem}" if energy.problem else ""))
    return lines


def _figure(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"
