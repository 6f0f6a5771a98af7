"""Who is refused: too many requests, too many bytes, too many a second."""

from __future__ import annotations

import contextlib

import pytest

from iern.runtime.service import limits
from iern.runtime.service.limits import Admission, BusyError, Limits, RateLimit


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def refused(rate: RateLimit, address: str = "a") -> float:
    """Seconds to wait; 0 if the request is taken."""
    try:
        rate.check(address)
    except BusyError as error:
        return error.seconds
    return 0


def test_an_address_may_send_its_rate_after_a_burst_of_two_seconds():
    clock = Clock()
    rate = RateLimit(5, clock)
    assert [refused(rate) for _ in range(10)] == [0] * 10
    assert refused(rate) == 1
    assert refused(rate, "another") == 0
    taken = 0
    for _ in range(1000):
        clock.now += 0.1
        taken += refused(rate) == 0
    assert taken == pytest.approx(500, abs=2)


def test_the_seconds_to_wait_are_enough_and_not_much_more():
    clock = Clock()
    rate = RateLimit(0.1, clock)
    assert refused(rate) == 0
    seconds = refused(rate)
    assert seconds == 10
    clock.now += seconds
    assert refused(rate) == 0


def test_without_a_rate_nobody_is_refused():
    rate = RateLimit(0)
    assert not any(refused(rate) for _ in range(1000))


def test_a_flood_of_addresses_is_forgotten_and_one_that_is_refused_now_is_not(monkeypatch):
    monkeypatch.setattr(limits, "KNOWN_ADDRESSES", 100)
    clock = Clock()
    rate = RateLimit(0.5, clock)
    for number in range(1000):
        clock.now += 10
        refused(rate, f"silent {number}")
        assert len(rate._buckets) <= 100
    assert refused(rate, "loud") == 0
    for number in range(150):
        clock.now += 0.01
        rate.check(f"other {number}") if number < 90 else None
    assert refused(rate, "loud") > 0


def test_requests_and_bytes_are_counted_until_their_end(monkeypatch):
    monkeypatch.setattr(limits, "HELD_BYTES", 100)
    admission = Admission(Limits(waiting=3))
    with contextlib.ExitStack() as held:
        held.enter_context(admission.admitted(60, 7.2))
        with pytest.raises(BusyError, match="60 bytes") as refusal, admission.admitted(41, 7.2):
            pass
        assert (refusal.value.seconds, refusal.value.status) == (8, 503)
        held.enter_context(admission.admitted(40, 0))
        held.enter_context(admission.admitted(0, 0))
        with pytest.raises(BusyError, match="3 requests") as refusal, admission.admitted(0, 0):
            pass
        assert refusal.value.seconds == 1
    assert admission.requests == 0
    with admission.admitted(1000, 0):
        assert admission.requests == 1


def test_a_request_that_fails_is_no_longer_counted():
    admission = Admission(Limits(waiting=1))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), admission.admitted(10, 0):
            raise ZeroDivisionError
    assert admission.requests == 0
