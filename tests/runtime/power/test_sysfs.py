"""Linux's files: trees as real machines have them, with real permissions."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import pytest

from iern.runtime.power.sysfs import ina_sensors, rapl_counters

NOBODY = 65534
RANGE = 262_143_328_850
"""The range of an Intel processor, in microjoules."""


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n", encoding="utf-8")
    return folder


def rapl(root: Path, zone: str, name: str, microjoules: int = 0) -> Path:
    folder = root / "sys" / "class" / "powercap" / f"intel-rapl:{zone}"
    return write(folder, name=name, energy_uj=microjoules, max_energy_range_uj=RANGE)


def orin_nano(root: Path) -> Path:
    """The INA3221 of an Orin Nano: three rails, and the sum of their shunts, which has no label of its own here."""
    rails = {1: ("VDD_IN", 5024, 1016), 2: ("VDD_CPU_GPU_CV", 5016, 152), 3: ("VDD_SOC", 5016, 312)}
    folder = write(root / "sys" / "class" / "hwmon" / "hwmon1", name="ina3221", curr4_input=1480)
    for number, (label, millivolts, milliamperes) in rails.items():
        channel = {f"in{number}_label": label, f"in{number}_input": millivolts, f"curr{number}_input": milliamperes}
        write(folder, **channel)
    return folder


@contextlib.contextmanager
def not_root():
    """Run the block as a user whom permissions bind."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that every user can enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_rapl_gives_packages_and_memory_in_joules_and_leaves_out_what_is_in_a_package(tmp_path):
    rapl(tmp_path, "0", "package-0", 12_345_678)
    rapl(tmp_path, "0:0", "core", 9_000_000)
    rapl(tmp_path, "0:1", "uncore", 1_000_000)
    rapl(tmp_path, "0:2", "dram", 500_000)
    rapl(tmp_path, "1", "package-1", 1)
    rapl(tmp_path, "1:0", "dram", 2)
    sensors, missing = rapl_counters(tmp_path)
    assert {sensor.name: sensor.read() for sensor in sensors} == {
        "processor package-0": 12.345678,
        "processor dram": 0.5,
        "processor package-1": 1e-6,
        "processor dram (intel-rapl:1:0)": 2e-6,
    }
    assert {sensor.range for sensor in sensors} == {RANGE / 1e6}
    assert missing == ""


def test_rapl_that_only_root_may_read_is_reported_with_the_command_that_opens_it(open_folder):
    (rapl(open_folder, "0", "package-0") / "energy_uj").chmod(0o400 if os.geteuid() == 0 else 0)
    with not_root():
        sensors, missing = rapl_counters(open_folder)
    powercap = open_folder / "sys" / "class" / "powercap"
    assert not sensors
    assert missing == (
        f"RAPL ({powercap}/intel-rapl:0/energy_uj: Permission denied; sudo chmod a+r {powercap}/intel-rapl:*/energy_uj)"
    )


def test_a_machine_without_rapl_or_ina_is_told_where_they_were_looked_for(tmp_path):
    assert rapl_counters(tmp_path).missing == f"RAPL (no intel-rapl:* in {tmp_path}/sys/class/powercap)"
    assert ina_sensors(tmp_path).missing == f"a Jetson's INA3221 (no ina3221 in {tmp_path}/sys/class/hwmon)"


def test_the_rails_of_a_jetson_are_volts_times_amperes(tmp_path):
    folder = orin_nano(tmp_path)
    write(folder.parent / "hwmon0", name="tmp451", in1_input=1, curr1_input=1, in1_label="fan")
    sensors, missing = ina_sensors(tmp_path)
    assert {sensor.name: sensor.read() for sensor in sensors} == {
        "rail VDD_IN": pytest.approx(5.024 * 1.016),
        "rail VDD_CPU_GPU_CV": pytest.approx(5.016 * 0.152),
        "rail VDD_SOC": pytest.approx(5.016 * 0.312),
    }
    assert missing == ""
    write(folder, in1_input=5000, curr1_input=2000)
    assert sensors[0].read() == 10.0


def test_channels_that_are_not_connected_are_left_out(tmp_path):
    folder = orin_nano(tmp_path).parent / "hwmon2"
    write(folder, name="ina3221", in1_label="NC", in1_input=8, curr1_input=0)
    write(folder, in2_label="VDDQ_VDD2_1V8AO", in2_input=5000, curr2_input=400)
    assert [sensor.name for sensor in ina_sensors(tmp_path).sensors][3:] == ["rail VDDQ_VDD2_1V8AO"]


def test_a_rail_that_disappears_is_an_error_with_the_reason(tmp_path):
    folder = orin_nano(tmp_path)
    sensors, _ = ina_sensors(tmp_path)
    (folder / "curr1_input").unlink()
    with pytest.raises(OSError, match="No such file"):
        sensors[0].read()
