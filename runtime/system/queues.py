"""Queues between threads: every item in order, or only the latest one of each lane."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")

DEPTH = 2
"""Items of a lane that may wait if none may be lost: enough to have the next one ready, and few pictures in memory."""


class FrameQueue(Generic[T]):
    """A queue between threads. When its producers end or fail, the consumer sees the end or the exception.

    A lane is what belongs together, such as the frames of one source. Without `lane` there is only one.
    """

    def __init__(
        self,
        latest: bool,
        lane: Callable[[T], Hashable] = lambda _: "",
        complete: Container[Hashable] = (),
        producers: int = 1,
    ) -> None:
        """With `latest` a new item replaces the one of its lane that waits. Otherwise `put` waits for room in the lane.

        Lanes in `complete` lose nothing in any case. `producers` is how many times `end` is called.
        """
        self._dropped: Counter[Hashable] = Counter()
        self._latest, self._lane, self._complete = latest, lane, complete
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._producing = producers
        self._closed = False
        self._error: BaseException | None = None

    @property
    def dropped(self) -> int:
        """Items that were replaced before the consumer took them."""
        return sum(self._dropped.values())

    def dropped_in(self, lane: Hashable) -> int:
        """The dropped items of that lane."""
        return self._dropped[lane]

    @property
    def ended(self) -> bool:
        """Whether every item was taken and all producers ended without an error. After an error `take` raises it."""
        with self._changed:
            return self._ended and not self._waiting and self._error is None

    @property
    def _ended(self) -> bool:
        return self._producing <= 0

    def put(self, item: T) -> bool:
        """Add an item. False if the consumer has closed the queue."""
        lane = self._lane(item)
        latest = self._latest and lane not in self._complete
        with self._changed:
            if latest and self._replace(lane, item):
                return not self._closed
            self._changed.wait_for(lambda: self._closed or latest or self._count(lane) < DEPTH)
            if not self._closed:
                self._waiting.append(item)
                self._changed.notify_all()
            return not self._closed

    def _replace(self, lane: Hashable, item: T) -> bool:
        """Put the item in the place of the one of its lane that waits. False if none does."""
        for place, waiting in enumerate(self._waiting):
            if self._lane(waiting) == lane:
                self._waiting[place] = item
                self._dropped[lane] += 1
                return True
        return False

    def _count(self, lane: Hashable) -> int:
        return sum(self._lane(waiting) == lane for waiting in self._waiting)

    def end(self, error: BaseException | None = None) -> None:
        """Declare that a producer has ended. After the last item of all producers `take` raises the first `error`."""
        with self._changed:
            self._producing -= 1
            self._error = error if self._error is None else self._error
            self._changed.notify_all()

    def take(self, seconds: float | None = None) -> T | None:
        """The next item, or None if none came within `seconds` or the producers have ended.

        After the last item, the error that ended a producer is raised.
        """
        with self._changed:
            return self._waiting.popleft() if self._wait(seconds) else None

    def take_each(self) -> list[T]:
        """The oldest item of each lane, as soon as there is one. Empty at the end. Errors are raised as by `take`."""
        with self._changed:
            self._wait(None)
            first: dict[Hashable, T] = {}
            later: deque[T] = deque()
            for item in self._waiting:
                if first.setdefault(self._lane(item), item) is not item:
                    later.append(item)
            self._waiting = later
            return list(first.values())

    def _wait(self, seconds: float | None) -> bool:
        """Wait for an item, and report that there is room. False if there is none. Raises a producer's error."""
        self._changed.wait_for(lambda: self._waiting or self._ended, seconds)
        if self._waiting:
            self._changed.notify_all()
        elif self._ended and self._error is not None:
            raise self._error
        return bool(self._waiting)

    def __iter__(self) -> Iterator[T]:
        while (item := self.take()) is not None:
            yield item

    def close(self) -> None:
        """Refuse further items, so that the producers end."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()


@contextlib.contextmanager
def produce_in_thread(items: Iterable[T], latest: bool, name: str) -> Iterator[FrameQueue[T]]:
    """Produce the items in a thread called `name`, and yield their queue. The thread ends with the block."""
    with produce_into(FrameQueue[T](latest), {name: items}) as queue:
        yield queue


@contextlib.contextmanager
def produce_into(queue: FrameQueue[T], producers: Mapping[str, Iterable[T]]) -> Iterator[FrameQueue[T]]:
    """Produce the items of each producer in a thread of that name, and yield the queue.

    The threads end with the block.
    """

    def produce(items: Iterable[T]) -> None:
        error = None
        try:
            for item in items:
                if not queue.put(item):
                    break
        except BaseException as caught:  # the consumer raises it
            error = caught
        queue.end(error)

    # Not daemons: if Python ends while a daemon thread is inside a C library, the process aborts.
    threads = [threading.Thread(target=produce, name=name, args=(items,)) for name, items in producers.items()]
    for thread in threads:
        thread.start()
    try:
        yield queue
    finally:
        queue.close()
        for thread in threads:
            thread.join()
