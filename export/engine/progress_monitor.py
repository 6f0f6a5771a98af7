"""The object that TensorRT calls while it builds. It passes progress on, and stops the build after Ctrl-C.

Its base class belongs to the TensorRT package in use, so the class is made for a given package.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any


def make_monitor(trt: ModuleType, on_step: Callable[[str, int, int], None], stopped: Callable[[], bool]) -> Any:
    """A progress monitor that calls `on_step(phase, done, of)`. When `stopped()` is true, the build ends at its next
    step.

    An exception must not pass through TensorRT's C++ code, so Ctrl-C sets a flag instead.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = steps
            on_step(phase, 0, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            on_step(phase, step + 1, self.steps.get(phase, 0))
            return not stopped()

        def phase_finish(self, phase: str) -> None:
            steps = self.steps.pop(phase, 0)
            on_step(phase, steps, steps)

    return Monitor()
