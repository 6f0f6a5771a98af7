"""From thread to thread: files lose nothing, live sources wait for nothing, and no thread dies in silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from iern.runtime.system.queues import DEPTH, produce_in_thread


def counting(until: int, pause: float = 0.0) -> Iterator[int]:
    for number in range(until):
        time.sleep(pause)
        yield number


def alive(name: str) -> bool:
    return any(thread.name == name for thread in threading.enumerate())


def test_everything_arrives_once_and_in_order_whichever_side_is_slow():
    with produce_in_thread(counting(2000), latest=False, name="fast") as numbers:
        assert list(numbers) == list(range(2000))
    with produce_in_thread(counting(30, pause=0.005), latest=False, name="slow maker") as numbers:
        assert list(numbers) == list(range(30))
    with produce_in_thread(counting(30), latest=False, name="slow taker") as numbers:
        taken = []
        for number in numbers:
            time.sleep(0.005)
            taken.append(number)
    assert taken == list(range(30))
    assert numbers.dropped == 0


def test_a_fast_maker_is_held_back_so_that_pictures_do_not_pile_up():
    made = []

    def making() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    with produce_in_thread(making(), latest=False, name="held back") as numbers:
        assert numbers.take() == 0
        time.sleep(0.3)
        assert len(made) <= DEPTH + 2, "what waits, what was taken, and what is being handed over"


def test_of_what_comes_too_fast_the_latest_is_taken_and_the_rest_is_counted():
    with produce_in_thread(counting(100), latest=True, name="live") as numbers:
        time.sleep(0.3)
        taken = list(numbers)
    assert taken[-1] == 99
    assert taken == sorted(taken)
    assert len(taken) + numbers.dropped == 100
    assert numbers.dropped > 0


@pytest.mark.parametrize("latest", [True, False])
@pytest.mark.parametrize("error", [ValueError("the reason"), SystemExit(3), MemoryError()])
def test_what_ends_the_thread_is_raised_where_its_things_are_taken_after_the_last_of_them(latest, error):
    def failing() -> Iterator[int]:
        yield 1
        raise error

    taken = []
    with produce_in_thread(failing(), latest, name="failing") as numbers, pytest.raises(type(error)) as raised:
        while not numbers.ended:
            taken.append(numbers.take())
    assert raised.value is error
    assert taken == [1]


def test_an_error_before_the_end_of_the_block_is_not_missed_by_a_taker_that_waits_in_glances():
    """The thread fails between two glances: `ended` must not say that all is well."""
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
def test_the_thread_ends_with_the_block_though_its_things_do_not(latest):
    def endless() -> Iterator[int]:
        while True:
            yield 1
            time.sleep(0.001)

    with produce_in_thread(endless(), latest, name="endless") as ones:
        assert ones.take() == 1
        assert alive("endless")
    assert not alive("endless")


def test_threads_in_a_row_end_together_and_the_first_error_reaches_the_last_taker():
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
