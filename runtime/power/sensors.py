"""What measures energy or power: a counter of joules, or a sensor of watts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class EnergyCounter:
    """A counter that the hardware or its driver adds to all the time."""

    name: str
    read: Callable[[], float]
    """Joules since some moment. Raises OSError or ValueError if it cannot be read."""
    range: float = 0.0
    """Joules at which the counter begins again at 0. 0: it does not."""


@dataclass(frozen=True)
class PowerSensor:
    """A sensor of the power at this moment."""

    name: str
    read: Callable[[], float]
    """Watts. Raises OSError or ValueError if it cannot be read."""


Sensor = EnergyCounter | PowerSensor


class Found(NamedTuple):
    """What was found of one kind of sensor."""

    sensors: Sequence[Sensor]
    missing: str = ""
    """The kind, and why it, or a part of it, cannot be read and what to do. Empty if all can."""
