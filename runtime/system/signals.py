"""Ctrl-C and SIGTERM handled for the length of a block, for work that must stop in good order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def on_signals(
    handle: Callable[[int], None], numbers: Sequence[signal.Signals] = STOPPING
) -> Iterator[Callable[[], None]]:
    """Call `handle(number)` for these signals until the block ends, then restore the earlier handlers.

    Yields a function that restores them before that, so that a second signal has its usual effect. Python delivers
    signals to the main thread only: in any other thread the block runs without handlers.
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
