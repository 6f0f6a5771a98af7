"""Outputs in a thread: a live loop never waits, a file loses nothing, and no failure is silent."""

from __future__ import annotations

import threading
import time

import pytest

from doubles.made_up_results import view
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.queued_sink import PICTURES, queued_sink


def test_a_slow_output_of_a_live_source_loses_frames_says_so_and_counts_them_but_the_loop_does_not_wait(capsys):
    release, got = threading.Event(), []

    def slow(each: FrameResult) -> None:
        release.wait(30)
        got.append(each.frame.index)

    with queued_sink(slow, "out.mp4", live=True, pictures=True) as output:
        start = time.monotonic()
        for index in range(100):
            output(view(index))
        assert time.monotonic() - start < 10, "the sink alone would hold the first frame for 30 s"
        said = capsys.readouterr().out
        assert said == "note: out.mp4: cannot keep up; frames are left out\n", "once, and when it begins"
        release.set()
    assert len(got) + output.dropped == 100
    assert len(got) in (PICTURES, PICTURES + 1)
    assert got == sorted(got)
    assert output.note == f"out.mp4: left out {output.dropped} frames, since it could not keep up"


def test_a_slow_output_of_a_file_loses_nothing():
    got = []

    def slow(each: FrameResult) -> None:
        time.sleep(0.005)
        got.append(each.frame.index)

    with queued_sink(slow, "out.mp4", live=False, pictures=True) as output:
        for index in range(5 * PICTURES):
            output(view(index))
    assert got == list(range(5 * PICTURES))
    assert output.note == ""


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("of some kind"), "of some kind"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_an_output_that_fails_is_said_at_once_and_the_loop_goes_on(capsys, live, error, said):
    def full(each: FrameResult) -> None:
        if each.frame.index == 2:
            raise error

    with queued_sink(full, "out.mp4", live, pictures=True) as output:
        for index in range(3):
            output(view(index))
        deadline = time.monotonic() + 30
        while not output.failure and time.monotonic() < deadline:
            time.sleep(0.01)
        for index in range(3, 50):
            output(view(index))
        assert capsys.readouterr().err == f"warning: out.mp4: {said}; the loop goes on without it\n"
    assert output.failure == said
    assert output.note == f"out.mp4: ended early ({said}), 48 frames not written"
    assert capsys.readouterr().out == f"note: {output.note}\n"


def test_a_loop_of_a_file_that_waits_for_an_output_which_then_fails_goes_on():
    start = threading.Event()

    def fails_late(_: FrameResult) -> None:
        start.wait(30)
        raise OSError(28, "No space left on device")

    with queued_sink(fails_late, "out.mp4", live=False, pictures=True) as output:
        for index in range(PICTURES + 1):
            output(view(index))
        threading.Timer(0.3, start.set).start()
        for index in range(20):
            output(view(index))
    assert output.failure


def test_records_wait_without_their_pictures():
    shapes = []
    with queued_sink(lambda each: shapes.append(each.frame.image.shape), "out.jsonl", live=True) as output:
        output(view(3))
    assert shapes == [(0, 0, 3)]


def test_an_error_of_the_loop_does_not_wait_for_the_queue():
    got = []

    def slow(each: FrameResult) -> None:
        time.sleep(0.2)
        got.append(each.frame.index)

    with (
        pytest.raises(RuntimeError, match="the loop fails"),
        queued_sink(slow, "out.mp4", live=False, pictures=True) as output,
    ):
        for index in range(PICTURES):
            output(view(index))
        raise RuntimeError("the loop fails")
    assert len(got) < PICTURES


def test_no_thread_is_left_behind():
    before = threading.active_count()
    for _ in range(5):
        with queued_sink(lambda _: None, "out.jsonl", live=True) as output:
            output(view(1))
    assert threading.active_count() == before
