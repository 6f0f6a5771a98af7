"""Reports to systemd that the service is ready, alive or stopping.

A report is a datagram to the socket in NOTIFY_SOCKET, see sd_notify(3). Without that variable nothing is sent.
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
    """Send the state to systemd. If nothing listens, nothing happens: the service must not fail for that."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(state.encode(), address)


def heartbeat() -> Callable[[], None]:
    """Return a function that reports to systemd's watchdog, if there is one, at a third of its timeout.

    The main thread calls it in every iteration of the loop, also while it waits for a lost source. Without reports
    systemd kills the service and starts it again.
    """
    timeout = _watchdog_timeout()
    due = 0.0

    def beat() -> None:
        nonlocal due
        if timeout and time.monotonic() >= due:
            due = time.monotonic() + timeout / 3
            notify(ALIVE)

    return beat


def _watchdog_timeout() -> float:
    """Seconds after which the watchdog of this process kills it. 0 without a watchdog."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0
