"""What systemd wants to know of a service: that it is ready, that it is alive, and that it ends.

See sd_notify(3): a datagram to the socket that NOTIFY_SOCKET names. Where there is none, nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


def notify(state: str) -> None:
    """Tell systemd, where it listens; a service must not fail for want of somebody who does."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.setblocking(False)
        line.sendto(state.encode(), address)


def heartbeat() -> Callable[[], None]:
    """A function for every turn of the loop: it tells systemd's watchdog, if there is one, at a third of its patience.

    To be called in the thread whose life matters, while it waits for a lost source too: systemd kills a service that
    has gone silent, and starts it anew.
    """
    patience = _patience()
    due = 0.0

    def beat() -> None:
        nonlocal due
        if patience and time.monotonic() >= due:
            due = time.monotonic() + patience / 3
            notify(ALIVE)

    return beat


def _patience() -> float:
    """Seconds of the watchdog for this process; 0 where there is none."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0
