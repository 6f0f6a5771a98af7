"""Signals are handled during a block only, and the earlier handlers are restored after it."""

from __future__ import annotations

import signal
import threading

import pytest

from iern.runtime.system.signals import STOP_SIGNALS, on_signals


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in STOP_SIGNALS]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_each_signal_calls_the_handler_during_the_block(number):
    received = []
    with on_signals(received.append):
        signal.raise_signal(number)
        signal.raise_signal(number)
    assert received == [number, number]


def test_the_earlier_handlers_are_restored_after_the_block_and_after_an_exception():
    before = handlers()
    with on_signals(print):
        assert handlers() != before
    assert handlers() == before
    with pytest.raises(ValueError, match="stop"), on_signals(print):
        raise ValueError("stop")
    assert handlers() == before


def test_the_earlier_handlers_can_be_restored_within_the_block():
    received = []
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    with on_signals(received.append) as restore:
        signal.raise_signal(signal.SIGINT)
        restore()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, inherited)
    assert received == [signal.SIGINT]


def test_an_exception_of_the_handler_is_raised_in_the_block():
    def stop(number: int) -> None:
        raise KeyboardInterrupt

    before = handlers()
    with pytest.raises(KeyboardInterrupt), on_signals(stop):
        signal.raise_signal(signal.SIGTERM)
    assert handlers() == before


def test_only_the_named_signals_are_handled():
    before = signal.getsignal(signal.SIGINT)
    with on_signals(print, [signal.SIGTERM]):
        assert signal.getsignal(signal.SIGINT) == before


def test_another_thread_runs_its_block_without_handlers():
    before, found = handlers(), []

    def work() -> None:
        with on_signals(print) as restore:
            found.append(handlers())
            restore()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
