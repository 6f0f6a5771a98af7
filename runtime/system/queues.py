"""From one thread to the next: everything in order, or only the latest."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

DEPTH = 2
"""Things that wait where none may be lost: one is ready when the next is asked for, and pictures do not pile up."""


class FrameQueue(Generic[T]):
    """One thread puts, another takes; what ends the one, an error too, is what the other finds at the end."""

    def __init__(self, latest: bool) -> None:
        """`latest`: one thing waits, and a newer one takes its place; otherwise `put` waits for room."""
        self.dropped = 0
        """Things that nobody took before a newer one came."""
        self._latest = latest
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None

    @property
    def ended(self) -> bool:
        """Whether everything has been taken and the other side ended well; where it did not, `take` has more to say."""
        with self._changed:
            return self._ended and not self._waiting and self._error is None

    def put(self, item: T) -> bool:
        """Hand over; False once the other side takes no more."""
        with self._changed:
            if self._latest:
                self.dropped += len(self._waiting)
                self._waiting.clear()
            self._changed.wait_for(lambda: self._closed or len(self._waiting) < DEPTH)
            if not self._closed:
                self._waiting.append(item)
                self._changed.notify_all()
            return not self._closed

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes; `error` is raised where it would have come."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def take(self, seconds: float | None = None) -> T | None:
        """The next thing, after at most so many seconds; None where none came, or none will.

        Raises what ended the other side, once all that it put has been taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, seconds)
            if self._waiting:
                self._changed.notify_all()
                return self._waiting.popleft()
            if self._error is not None:
                raise self._error
            return None

    def __iter__(self) -> Iterator[T]:
        while (item := self.take()) is not None:
            yield item

    def close(self) -> None:
        """Take no more, so that the other side ends."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()


@contextlib.contextmanager
def produce_in_thread(items: Iterable[T], latest: bool, name: str) -> Iterator[FrameQueue[T]]:
    """Let a thread of that name make the items, and yield where to take them; the thread ends with the block."""
    handover = FrameQueue[T](latest)

    def make() -> None:
        error = None
        try:
            for item in items:
                if not handover.put(item):
                    break
        except BaseException as caught:  # a thread that dies must not die silently: the taker gets its reason
            error = caught
        handover.end(error)

    # No daemon: Python ending under a thread that is inside a C library aborts the process.
    thread = threading.Thread(target=make, name=name)
    thread.start()
    try:
        yield handover
    finally:
        handover.close()
        thread.join()
