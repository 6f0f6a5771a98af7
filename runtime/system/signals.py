"""Handles Ctrl-C and SIGTERM during a block, for work that must finish its files before it stops."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def on_signals(
    handle: Callable[[int], None], numbers: Sequence[signal.Signals] = STOP_SIGNALS
) -> Iterator[Callable[[], None]]:
    """Call `handle(number)` for these signals until the block ends, then restore the earlier handlers.

    Yields a function that restores them earlier, so that a second signal has its usual effect. Python delivers signals
    to the main thread only. In any other thread the block runs without handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def on_signal(number: int, _: FrameType | None) -> None:
        handle(number)

    before = {number: signal.signal(number, on_signal) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield restore
    finally:
        restore()
