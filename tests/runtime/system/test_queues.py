"""Queues between threads: files lose nothing, live sources never wait, and no error of a thread is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from iern.runtime.system.queues import DEPTH, FrameQueue, produce_in_thread


def counting(until: int, pause: float = 0.0) -> Iterator[int]:
    for number in range(until):
        time.sleep(pause)
        yield number


def alive(name: str) -> bool:
    return any(thread.name == name for thread in threading.enumerate())


def test_everything_arrives_once_and_in_order_whichever_side_is_slow():
    with produce_in_thread(counting(2000), latest=False, name="fast") as numbers:
        assert list(numbers) == list(range(2000))
    with produce_in_thread(counting(30, pause=0.005), latest=False, name="slow producer") as numbers:
        assert list(numbers) == list(range(30))
    with produce_in_thread(counting(30), latest=False, name="slow consumer") as numbers:
        taken = []
        for number in numbers:
            time.sleep(0.005)
            taken.append(number)
    assert taken == list(range(30))
    assert numbers.dropped == 0


def test_a_fast_producer_waits_so_that_few_pictures_are_in_memory():
    produced = []

    def produce() -> Iterator[int]:
        for number in range(100):
            produced.append(number)
            yield number

    with produce_in_thread(produce(), latest=False, name="waiting") as numbers:
        assert numbers.take() == 0
        time.sleep(0.3)
        assert len(produced) <= DEPTH + 2, "those that wait, one that was taken and one that is being put"


def test_a_live_queue_keeps_the_latest_item_and_counts_the_dropped_ones():
    with produce_in_thread(counting(100), latest=True, name="live") as numbers:
        time.sleep(0.3)
        taken = list(numbers)
    assert taken[-1] == 99
    assert taken == sorted(taken)
    assert len(taken) + numbers.dropped == 100
    assert numbers.dropped > 0


@pytest.mark.parametrize("latest", [True, False])
@pytest.mark.parametrize("error", [ValueError("the reason"), SystemExit(3), MemoryError()])
def test_an_error_of_the_producer_is_raised_in_the_consumer_after_the_last_item(latest, error):
    def failing() -> Iterator[int]:
        yield 1
        raise error

    taken = []
    with produce_in_thread(failing(), latest, name="failing") as numbers, pytest.raises(type(error)) as raised:
        while not numbers.ended:
            taken.append(numbers.take())
    assert raised.value is error
    assert taken == [1]


def test_a_consumer_that_polls_gets_an_error_before_the_end_of_the_block():
    """The thread fails between two polls. `ended` must then be false."""
    go = threading.Event()

    def failing() -> Iterator[int]:
        go.wait()
        raise ValueError("late")
        yield

    with produce_in_thread(failing(), latest=True, name="late") as numbers:
        assert numbers.take(0.01) is None
        go.set()
        while alive("late"):
            time.sleep(0.01)
        assert not numbers.ended
        with pytest.raises(ValueError, match="late"):
            numbers.take(0.01)


@pytest.mark.parametrize("latest", [True, False])
def test_the_thread_ends_with_the_block_even_if_its_items_do_not(latest):
    def endless() -> Iterator[int]:
        while True:
            yield 1
            time.sleep(0.001)

    with produce_in_thread(endless(), latest, name="endless") as ones:
        assert ones.take() == 1
        assert alive("endless")
    assert not alive("endless")


def test_chained_threads_end_together_and_the_first_error_reaches_the_last_consumer():
    def doubled(numbers: Iterator[int]) -> Iterator[int]:
        for number in numbers:
            yield 2 * number

    def failing() -> Iterator[int]:
        yield from range(5)
        raise OSError("unplugged")

    with (
        produce_in_thread(failing(), latest=False, name="one") as numbers,
        produce_in_thread(doubled(iter(numbers)), latest=False, name="two") as twice,
    ):
        assert [twice.take() for _ in range(5)] == [0, 2, 4, 6, 8]
        with pytest.raises(OSError, match="unplugged"):
            twice.take()
    assert not alive("one") and not alive("two")


def test_a_lane_keeps_its_own_latest_item_and_a_complete_lane_loses_none():
    queue = FrameQueue[tuple[str, int]](latest=True, lane=lambda item: item[0], complete=["file"], producers=2)
    for number in range(3):
        queue.put(("a", number))
        queue.put(("b", number))
    for number in range(DEPTH):
        queue.put(("file", number))
    assert queue.take_each() == [("a", 2), ("b", 2), ("file", 0)]
    assert (queue.dropped_in("a"), queue.dropped_in("b"), queue.dropped_in("file"), queue.dropped) == (2, 2, 0, 4)
    assert queue.take_each() == [("file", 1)]
    queue.end(ValueError("one has failed"))
    queue.put(("b", 7))
    assert not queue.ended and queue.take_each() == [("b", 7)], "the other producer goes on"
    queue.end()
    with pytest.raises(ValueError, match="one has failed"):
        queue.take_each()
