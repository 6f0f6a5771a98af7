"""Queues between two threads: every item in order, or only the latest one."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

DEPTH = 2
"""Items that may wait if none may be lost: enough to have the next one ready, and few pictures in memory."""


class FrameQueue(Generic[T]):
    """A queue between two threads. When the producer ends or fails, the consumer sees the end or the exception."""

    def __init__(self, latest: bool) -> None:
        """With `latest` a new item replaces the one that waits. Otherwise `put` waits for room."""
        self.dropped = 0
        """Items that were replaced before the consumer took them."""
        self._latest = latest
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None

    @property
    def ended(self) -> bool:
        """Whether every item was taken and the producer ended without an error. After an error `take` raises it."""
        with self._changed:
            return self._ended and not self._waiting and self._error is None

    def put(self, item: T) -> bool:
        """Add an item. False if the consumer has closed the queue."""
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
        """Declare that no more items come. `take` raises `error` after the last item."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def take(self, seconds: float | None = None) -> T | None:
        """The next item, or None if none came within `seconds` or the producer has ended.

        After the last item, the error that ended the producer is raised.
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
        """Refuse further items, so that the producer ends."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()


@contextlib.contextmanager
def produce_in_thread(items: Iterable[T], latest: bool, name: str) -> Iterator[FrameQueue[T]]:
    """Produce the items in a thread called `name`, and yield their queue. The thread ends with the block."""
    queue = FrameQueue[T](latest)

    def produce() -> None:
        error = None
        try:
            for item in items:
                if not queue.put(item):
                    break
        except BaseException as caught:  # the consumer raises it
            error = caught
        queue.end(error)

    # Not a daemon: if Python ends while a daemon thread is inside a C library, the process aborts.
    thread = threading.Thread(target=produce, name=name)
    thread.start()
    try:
        yield queue
    finally:
        queue.close()
        thread.join()
