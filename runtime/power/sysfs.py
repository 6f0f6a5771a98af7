"""Sensors that Linux has as files: the processor's RAPL counters, and the INA3221 of NVIDIA's boards.

`root` is the folder that holds `sys`.
"""

from __future__ import annotations

import errno
import functools
import re
from pathlib import Path

from iern.runtime.power.sensors import EnergyCounter, Found, PowerSensor, Sensor

RAPL = "sys/class/powercap"
WITHIN_PACKAGE = ("core", "uncore")
"""RAPL's names of parts whose energy is in that of their package too."""

HWMON = "sys/class/hwmon"
NOT_CONNECTED = "NC"
"""The label of a channel that measures nothing."""


def rapl_counters(root: Path = Path("/")) -> Found:
    """The energy counters of processors by Intel and AMD: packages, memory, and the whole platform if it is counted.

    Linux lets only root read them, unless its files are opened to others.
    """
    sensors: list[Sensor] = []
    problems: list[str] = []
    zones = sorted((root / RAPL).glob("intel-rapl:*"))
    for zone in zones:
        path = zone / "energy_uj"
        try:
            name = (zone / "name").read_text(encoding="utf-8").strip()
            if name in WITHIN_PACKAGE:
                continue
            _millionths(path)
            span = _millionths(zone / "max_energy_range_uj")
        except (OSError, ValueError) as error:
            problems.append(_unreadable(path, error, f"sudo chmod a+r {root / RAPL}/intel-rapl:*/energy_uj"))
            continue
        names = [sensor.name for sensor in sensors]
        label = f"processor {name}" if f"processor {name}" not in names else f"processor {name} ({zone.name})"
        sensors.append(EnergyCounter(label, functools.partial(_millionths, path), span))
    if not zones:
        problems = [f"no intel-rapl:* in {root / RAPL}"]
    return Found(sensors, f"RAPL ({problems[0]})" if problems else "")


def ina_sensors(root: Path = Path("/")) -> Found:
    """The rails that a Jetson's INA3221 measure, each by its label, as tegrastats prints them."""
    sensors: list[Sensor] = []
    problems: list[str] = []
    chips = [path.parent for path in sorted((root / HWMON).glob("hwmon*/name")) if _is_ina(path)]
    for current in (path for chip in chips for path in sorted(chip.glob("curr*_input"))):
        number = re.sub(r"\D", "", current.name)
        try:
            label = (current.parent / f"in{number}_label").read_text(encoding="utf-8").strip()
            if label == NOT_CONNECTED:
                continue
            read = functools.partial(_watts, current.parent / f"in{number}_input", current)
            read()
        except (OSError, ValueError) as error:
            if not isinstance(error, FileNotFoundError):  # the sum of the channels has a current, but no label
                problems.append(_unreadable(current, error, "run as root"))
            continue
        sensors.append(PowerSensor(f"rail {label}", read))
    if not chips:
        problems = [f"no ina3221 in {root / HWMON}"]
    elif not sensors and not problems:
        problems = [f"no channel of {chips[0]} has a label and a current"]
    return Found(sensors, f"a Jetson's INA3221 ({problems[0]})" if problems else "")


def _is_ina(path: Path) -> bool:
    try:
        return path.read_text(encoding="utf-8").strip() == "ina3221"
    except OSError:
        return False


def _millionths(path: Path) -> float:
    """The number in a file, in microjoules -> joules."""
    return int(path.read_text(encoding="utf-8")) / 1e6


def _watts(voltage: Path, current: Path) -> float:
    """Files with millivolts and milliamperes -> watts."""
    return int(voltage.read_text(encoding="utf-8")) * int(current.read_text(encoding="utf-8")) / 1e6


def _unreadable(path: Path, error: Exception, remedy: str) -> str:
    denied = isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM)
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"{path}: {reason}" + (f"; {remedy}" if denied else "")
