"""NVIDIA's GPUs: the code calls a compiled double of NVML through the same interface as the driver's library."""

from __future__ import annotations

import ctypes
import subprocess

import pytest

from doubles.gpu.tensorrt_over_stubs import COMPILER
from iern.runtime.power.nvml import nvml_sensors
from iern.runtime.power.sensors import EnergyCounter, PowerSensor
from repository import ROOT

NOT_SUPPORTED, DRIVER_NOT_LOADED, GPU_IS_LOST = 3, 9, 15


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("no C compiler is installed; the double needs one")
    path = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    source = ROOT / "tests" / "doubles" / "gpu" / "nvml_double.c"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", source, "-o", path], check=True)
    return path


@pytest.fixture
def double(library):
    return ctypes.CDLL(str(library))


def set_device(double, index, name, *, energy=0, power=0, energy_result=0, power_result=0):
    number = ctypes.c_ulonglong(energy)
    double.double_set_device(index, name.encode(), number, power, energy_result, power_result)


def test_a_gpu_with_a_counter_gives_joules_beyond_what_32_bits_hold(library, double):
    double.double_set(1, 0)
    set_device(double, 0, "NVIDIA RTX 4090", energy=2**40 + 5, power=1)
    sensors, missing = nvml_sensors(str(library))
    assert missing == ""
    assert [type(sensor) for sensor in sensors] == [EnergyCounter]
    assert sensors[0].name == "GPU 0 NVIDIA RTX 4090"
    assert sensors[0].read() == (2**40 + 5) / 1000
    set_device(double, 0, "NVIDIA RTX 4090", energy=7)
    assert sensors[0].read() == 0.007


def test_an_older_gpu_gives_its_power_and_each_gpu_is_a_sensor_of_its_own(library, double):
    double.double_set(2, 0)
    set_device(double, 0, "Tesla P4", power=23_450, energy_result=NOT_SUPPORTED)
    set_device(double, 1, "Tesla T4", energy=1_000)
    sensors, missing = nvml_sensors(str(library))
    assert [(type(sensor), sensor.name, sensor.read()) for sensor in sensors] == [
        (PowerSensor, "GPU 0 Tesla P4", 23.45),
        (EnergyCounter, "GPU 1 Tesla T4", 1.0),
    ]
    assert missing == ""


def test_a_board_that_measures_neither_is_reported_with_nvmls_reason(library, double):
    double.double_set(1, 0)
    set_device(double, 0, "Orin (nvgpu)", energy_result=NOT_SUPPORTED, power_result=NOT_SUPPORTED)
    assert nvml_sensors(str(library)) == ([], "NVML (GPU 0: nvmlDeviceGetPowerUsage: Not Supported)")


def test_a_library_without_its_driver_is_reported_with_nvmls_reason(library, double):
    double.double_set(1, DRIVER_NOT_LOADED)
    assert nvml_sensors(str(library)) == ([], "NVML (nvmlInit_v2: Driver Not Loaded)")


def test_a_driver_that_finds_no_gpu_is_reported(library, double):
    double.double_set(0, 0)
    assert nvml_sensors(str(library)) == ([], "NVML (it finds no GPU)")


def test_a_machine_without_nvml_is_told_what_brings_it(tmp_path):
    sensors, missing = nvml_sensors(str(tmp_path / "libnvidia-ml.so.1"))
    assert not sensors
    assert missing.endswith("libnvidia-ml.so.1 is not installed; it comes with NVIDIA's driver)")


def test_a_gpu_that_is_lost_is_an_error_with_nvmls_reason(library, double):
    double.double_set(1, 0)
    set_device(double, 0, "NVIDIA A2", energy=1)
    sensors, _ = nvml_sensors(str(library))
    set_device(double, 0, "NVIDIA A2", energy_result=GPU_IS_LOST)
    with pytest.raises(OSError, match=r"nvmlDeviceGetTotalEnergyConsumption: GPU is lost"):
        sensors[0].read()


def test_a_driver_that_lacks_a_function_is_reported():
    assert nvml_sensors("libc.so.6") == ([], "NVML (this driver's NVML has no nvmlInit_v2)")
