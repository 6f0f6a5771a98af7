"""NVIDIA's GPUs through NVML, the library of their driver, which nvidia-smi uses too.

Four of its functions are enough, so they are called with ctypes, and no package is needed.
"""

from __future__ import annotations

import ctypes
import functools

from iern.runtime.power.sensors import EnergyCounter, Found, PowerSensor, Sensor

LIBRARY = "libnvidia-ml.so.1"
LONGEST_NAME = 96


def nvml_sensors(library: str = LIBRARY) -> Found:
    """A sensor for each GPU: its counter of energy, or of an older GPU its power.

    Boards such as Jetsons have the library, but measure neither. NVML stays open until the process ends.
    """
    sensors: list[Sensor] = []
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return Found((), f"NVML ({library} is not installed; it comes with NVIDIA's driver)")
    problem = ""
    try:
        _call(nvml, "nvmlInit_v2")
        count = ctypes.c_uint()
        _call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
        problem = "" if count.value else "it finds no GPU"
        for index in range(count.value):
            try:
                sensors.append(_sensor(nvml, index))
            except OSError as error:
                problem = f"GPU {index}: {error}"
    except OSError as error:
        problem = str(error)
    return Found(sensors, f"NVML ({problem})" if problem else "")


def _sensor(nvml: ctypes.CDLL, index: int) -> Sensor:
    """The sensor of a GPU. Raises OSError if it has neither."""
    device, name = ctypes.c_void_p(), ctypes.create_string_buffer(LONGEST_NAME)
    _call(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
    _call(nvml, "nvmlDeviceGetName", device, name, ctypes.c_uint(LONGEST_NAME))
    title = f"GPU {index} {name.value.decode('utf-8', 'replace')}"
    joules = functools.partial(_joules, nvml, device)
    try:
        joules()
    except OSError:  # GPUs before Volta
        watts = functools.partial(_watts, nvml, device)
        watts()
        return PowerSensor(title, watts)
    return EnergyCounter(title, joules)


def _joules(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> float:
    """Joules since the driver was loaded."""
    millijoules = ctypes.c_ulonglong()
    _call(nvml, "nvmlDeviceGetTotalEnergyConsumption", device, ctypes.byref(millijoules))
    return millijoules.value / 1000


def _watts(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> float:
    milliwatts = ctypes.c_uint()
    _call(nvml, "nvmlDeviceGetPowerUsage", device, ctypes.byref(milliwatts))
    return milliwatts.value / 1000


def _call(nvml: ctypes.CDLL, name: str, *arguments: object) -> None:
    """Call a function. Raises OSError with NVML's reason if it fails, or if the driver is too old to have it."""
    try:
        function = getattr(nvml, name)
    except AttributeError:
        raise OSError(f"this driver's NVML has no {name}") from None
    code = function(*arguments)
    if code:
        nvml.nvmlErrorString.restype = ctypes.c_char_p
        raise OSError(f"{name}: {(nvml.nvmlErrorString(code) or b'unknown').decode('utf-8', 'replace')}")
