"""What the service accepts, and who is refused: too many requests at once, and too many from one address."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HELD_BYTES = 128 << 20
"""Bytes of all pictures that are being received or wait. More are refused, because a body is held in memory."""
BURST_SECONDS = 2.0
"""An address that was silent may send the requests of this many seconds at once."""
KNOWN_ADDRESSES = 10_000
"""Addresses whose rate is remembered. Beyond that, those that may send a full burst are forgotten."""


@dataclass(frozen=True)
class Limits:
    """What one request may hold, and how many there may be."""

    megabytes: float = 10.0
    """Of one encoded picture."""
    megapixels: float = 25.0
    """Of one picture, which takes 3 bytes a pixel when it is decoded."""
    waiting: int = 64
    """Requests that are being received, wait or are answered."""
    rate: float = 0.0
    """Requests a second from one address. 0: any number."""
    cameras: int = 16
    """Open WebSockets."""

    @property
    def bytes(self) -> int:
        """The largest encoded picture in bytes."""
        return int(self.megabytes * 1e6)

    @property
    def pixels(self) -> int:
        """The largest picture in pixels."""
        return int(self.megapixels * 1e6)


class BusyError(Exception):
    """The request is refused now and may come again after `seconds`."""

    def __init__(self, reason: str, seconds: float, status: int = 503) -> None:
        """`status` is the HTTP status of the refusal."""
        super().__init__(reason)
        self.seconds = max(1, math.ceil(seconds))
        self.status = status


class Admission:
    """Counts the requests and their bytes from the first byte of a body until the answer."""

    def __init__(self, limits: Limits) -> None:
        self.requests = 0
        self._bytes = 0
        self._limits = limits

    @contextlib.contextmanager
    def admitted(self, size: int, retry_seconds: float) -> Iterator[None]:
        """Count a request of `size` bytes during the block. Raises BusyError if there are too many."""
        if self.requests >= self._limits.waiting:
            raise BusyError(f"{self.requests} requests wait already, which is the limit; try again", retry_seconds)
        # A picture that is too large for the others' company still fits alone.
        if self._bytes and self._bytes + size > HELD_BYTES:
            raise BusyError(f"{self._bytes} bytes of pictures wait already; try again", retry_seconds)
        self.requests += 1
        self._bytes += size
        try:
            yield
        finally:
            self.requests -= 1
            self._bytes -= size


class RateLimit:
    """Refuses an address that sends more than `rate` requests a second, after a burst. A token bucket for each."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`rate` is in requests a second, and 0 refuses nobody. `clock` returns seconds."""
        self._rate = rate
        self._clock = clock
        self._burst = max(1.0, BURST_SECONDS * rate)
        self._buckets: dict[str, tuple[float, float]] = {}
        """Address -> the requests that it might have sent at a time, and that time."""

    def check(self, address: str) -> None:
        """Count a request from the address. Raises BusyError if that is one too many."""
        if not self._rate:
            return
        now = self._clock()
        if len(self._buckets) >= KNOWN_ADDRESSES:
            self._forget_silent(now)
        left = self._left(address, now)
        if left < 1:
            wait = (1 - left) / self._rate
            raise BusyError(f"more than {self._rate:g} requests a second from one address; send fewer", wait, 429)
        self._buckets[address] = left - 1, now

    def _left(self, address: str, now: float) -> float:
        left, then = self._buckets.get(address, (self._burst, now))
        return min(self._burst, left + (now - then) * self._rate)

    def _forget_silent(self, now: float) -> None:
        """Forget the addresses with a full burst; if there are none, all: a flood must not fill the memory."""
        kept = {address: bucket for address, bucket in self._buckets.items() if self._left(address, now) < self._burst}
        self._buckets = kept if len(kept) < KNOWN_ADDRESSES else {}
