"""Outputs in threads: a live loop never waits, a file loses no frames, and every failure is reported."""

from __future__ import annotations

import threading
import time

import pytest

from doubles.made_up_results import grey_result
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.queued_sink import QUEUED_PICTURES, queued_sink


def test_a_slow_output_of_a_live_source_loses_frames_and_reports_them_and_the_loop_does_not_wait(capsys):
    release, got = threading.Event(), []

    def slow(result: FrameResult) -> None:
        release.wait(30)
        got.append(result.frame.index)

    with queued_sink(slow, "out.mp4", live=True, pictures=True) as output:
        start = time.monotonic()
        for index in range(100):
            output(grey_result(index))
        assert time.monotonic() - start < 10, "the sink alone takes 30 s for the first frame"
        printed = capsys.readouterr().out
        assert printed == "note: out.mp4: cannot keep up; frames are left out\n", "once, at the first lost frame"
        release.set()
    assert len(got) + output.dropped == 100
    assert len(got) in (QUEUED_PICTURES, QUEUED_PICTURES + 1)
    assert got == sorted(got)
    assert output.note == f"out.mp4: left out {output.dropped} frames, because it could not keep up"


def test_a_slow_output_of_a_file_loses_nothing():
    got = []

    def slow(result: FrameResult) -> None:
        time.sleep(0.005)
        got.append(result.frame.index)

    with queued_sink(slow, "out.mp4", live=False, pictures=True) as output:
        for index in range(5 * QUEUED_PICTURES):
            output(grey_result(index))
    assert got == list(range(5 * QUEUED_PICTURES))
    assert output.note == ""


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            OSError(28, "No space left on device"),
            "cannot be written (No space left on device); free some space or choose another place",
        ),
        (ValueError("of some kind"), "of some kind"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_an_output_that_fails_is_reported_at_once_and_the_loop_continues(capsys, live, error, reason):
    def full(result: FrameResult) -> None:
        if result.frame.index == 2:
            raise error

    with queued_sink(full, "out.mp4", live, pictures=True) as output:
        for index in range(3):
            output(grey_result(index))
        deadline = time.monotonic() + 30
        while not output.failure and time.monotonic() < deadline:
            time.sleep(0.01)
        for index in range(3, 50):
            output(grey_result(index))
        assert capsys.readouterr().err == f"warning: out.mp4: {reason}; the loop continues without it\n"
    assert output.failure == reason
    assert output.note == f"out.mp4: ended early, 48 frames not written: {reason}"
    assert capsys.readouterr().out == f"note: {output.note}\n"


def test_a_loop_that_waits_for_an_output_continues_when_the_output_fails():
    start = threading.Event()

    def fails_late(_: FrameResult) -> None:
        start.wait(30)
        raise OSError(28, "No space left on device")

    with queued_sink(fails_late, "out.mp4", live=False, pictures=True) as output:
        for index in range(QUEUED_PICTURES + 1):
            output(grey_result(index))
        threading.Timer(0.3, start.set).start()
        for index in range(20):
            output(grey_result(index))
    assert output.failure


def test_records_wait_without_the_memory_of_their_pictures_but_with_their_size():
    images = []
    with queued_sink(lambda result: images.append(result.frame.image), "out.jsonl", live=True) as output:
        output(grey_result(3))
    (image,) = images
    assert (image.shape, image.base.nbytes) == ((48, 64, 3), 1)


def test_an_error_of_the_loop_does_not_wait_for_the_queue():
    got = []

    def slow(result: FrameResult) -> None:
        time.sleep(0.2)
        got.append(result.frame.index)

    with (
        pytest.raises(RuntimeError, match="the loop fails"),
        queued_sink(slow, "out.mp4", live=False, pictures=True) as output,
    ):
        for index in range(QUEUED_PICTURES):
            output(grey_result(index))
        raise RuntimeError("the loop fails")
    assert len(got) < QUEUED_PICTURES


def test_no_thread_is_left_behind():
    before = threading.active_count()
    for _ in range(5):
        with queued_sink(lambda _: None, "out.jsonl", live=True) as output:
            output(grey_result(1))
    assert threading.active_count() == before
