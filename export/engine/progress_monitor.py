"""The object that TensorRT calls while it builds. It passes progress on, and stops the build after Ctrl-C.

Its base class belongs to the TensorRT package in use, so the class is made for a given package.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from iern.runtime.system.signals import on_signals

MANY_SIGNALS = 4096
"""Bytes that are read at once, one for each signal."""


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


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed inside the block, which it does not end.

    The function may be called from any thread. Python runs its handlers of signals in the main thread only, and not
    before TensorRT returns there. So the function also reads the descriptor to which Python writes each signal at once.
    """
    received: list[int] = []
    with on_signals(received.append, (signal.SIGINT,)), _signals_that_came() as came:

        def stopped() -> bool:
            received.extend(number for number in came() if number == signal.SIGINT)
            return bool(received)

        yield stopped


@contextmanager
def _signals_that_came() -> Iterator[Callable[[], bytes]]:
    """Yield a function that returns the numbers of the signals since its last call, one byte each, without waiting.

    A block that does not run in the main thread gets none: Python writes signals for the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: b""
        return
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)

    def came() -> bytes:
        try:
            return reader.recv(MANY_SIGNALS)
        except BlockingIOError:
            return b""

    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield came
    finally:
        signal.set_wakeup_fd(before)
        reader.close()
        writer.close()
