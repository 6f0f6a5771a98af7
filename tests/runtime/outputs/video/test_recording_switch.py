"""A recording that is switched on and off: real files, from the thread of the loop, asked for by another."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from iern.runtime.errors import IernError
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.queued_sink import QueuedSink, queued_sink
from iern.runtime.outputs.video.recording import recording
from iern.runtime.outputs.video.recording_switch import RecordingSwitch, stamped
from iern.runtime.sources.base import Frame
from iern.runtime.system.latency import Latency


@contextlib.contextmanager
def opened(path: Path) -> Iterator[QueuedSink]:
    with recording(path, 10) as sink, queued_sink(sink, str(path), live=False, pictures=True) as output:
        yield output


def view(index: int) -> FrameResult:
    image = np.full((48, 64, 3), 20 * index % 256, np.uint8)
    return FrameResult(Frame(image, index / 10, index, "made", 0.0), [], Latency(1, 1, 1, 3), "")


def frames_in(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    return sum(1 for _ in iter(lambda: capture.read()[0], False))


def finish(switch: RecordingSwitch) -> None:
    """Let the loop turn until the recording is finished."""
    deadline = time.monotonic() + 60
    while switch.path is not None:
        switch.turn()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_asked_for_from_the_start_begins_at_once_and_later_ones_have_files_of_their_own(tmp_path, capsys):
    first = tmp_path / "first.avi"
    with RecordingSwitch(opened, tmp_path, first) as switch:
        for index in range(5):
            switch(view(index))
        assert switch.path == first
        thread = threading.Thread(target=lambda: setattr(switch, "wanted", False))
        thread.start()
        thread.join()
        for index in range(5, 10):
            switch(view(index))
        finish(switch)
        assert frames_in(first) == 5, "it is whole once it is off"
        switch.wanted = True
        for index in range(10, 13):
            switch(view(index))
        (second,) = [switch.path]
        assert second is not None and second != first
    assert frames_in(second) == 3
    assert capsys.readouterr().out.splitlines() == [f"wrote {first}", f"wrote {second}"]


def test_nothing_is_written_that_nobody_asked_for(tmp_path, capsys):
    with RecordingSwitch(opened, tmp_path) as switch:
        switch(view(0))
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_later_recording_that_cannot_be_written_is_said_and_the_loop_goes_on(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    with RecordingSwitch(opened, tmp_path / "file" / "folder") as switch:
        switch.wanted = True
        switch(view(0))
        switch(view(1))
        assert not switch.wanted
        assert "file" in switch.failure
    assert capsys.readouterr().err.count("the loop goes on without this recording") == 1


def test_the_one_from_the_start_that_cannot_begin_is_an_error_before_the_first_frame(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((OSError, IernError)), RecordingSwitch(opened, tmp_path, tmp_path / "file" / "first.avi"):
        pass


def test_a_recording_that_fails_on_the_way_is_off_and_another_can_begin(tmp_path, capsys):
    @contextlib.contextmanager
    def failing(path: Path) -> Iterator[QueuedSink]:
        def full(each: FrameResult) -> None:
            raise OSError(28, "No space left on device")

        with queued_sink(full, str(path), live=False, pictures=True) as output:
            yield output

    def first_failing(path: Path) -> contextlib.AbstractContextManager[QueuedSink]:
        return failing(path) if path.name == "first.avi" else opened(path)

    with RecordingSwitch(first_failing, tmp_path, tmp_path / "first.avi") as switch:
        for index in range(20):
            switch(view(index))
        finish(switch)
        assert not switch.wanted
        assert switch.failure == f"{tmp_path / 'first.avi'}: No space left on device"
        switch.wanted = True
        switch(view(1000))
        second = switch.path
    assert second is not None
    assert frames_in(second) == 1
    assert f"wrote {second}" in capsys.readouterr().out


def test_the_loop_does_not_wait_for_a_slow_disk_at_the_end_of_a_recording_and_the_next_begins_after_it(
    tmp_path, capsys
):
    """The disk holds up the first recording until the loop has seen five more frames."""
    disk, asked = threading.Event(), []

    @contextlib.contextmanager
    def on_a_slow_disk(path: Path) -> Iterator[QueuedSink]:
        asked.append(path)
        with queued_sink(lambda _: disk.wait(30), str(path), live=True, pictures=True) as output:
            yield output

    with RecordingSwitch(on_a_slow_disk, tmp_path, tmp_path / "first.avi") as switch:
        for index in range(5):
            switch(view(index))
        began, switch.wanted = time.monotonic(), False
        for index in range(5, 10):
            switch(view(index))
        switch.wanted = True
        switch.turn()
        assert time.monotonic() - began < 10, "the loop waited"
        assert switch.path == tmp_path / "first.avi", "it is not finished yet"
        disk.set()
        deadline = time.monotonic() + 60
        while len(asked) < 2 and time.monotonic() < deadline:
            switch.turn()
            time.sleep(0.01)
        assert switch.path == asked[1]
    assert capsys.readouterr().out == f"wrote {tmp_path / 'first.avi'}\n"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("of some kind")])
def test_an_end_that_fails_is_said_and_the_loop_goes_on(tmp_path, capsys, error):
    @contextlib.contextmanager
    def failing_at_its_end(path: Path) -> Iterator[QueuedSink]:
        with queued_sink(lambda _: None, str(path), live=True, pictures=True) as output:
            yield output
        raise error

    with RecordingSwitch(failing_at_its_end, tmp_path, tmp_path / "first.avi") as switch:
        switch(view(0))
        switch.wanted = False
        finish(switch)
        assert str(error) in switch.failure
    said = capsys.readouterr()
    assert said.err.count("the loop goes on without this recording") == 1
    assert "wrote" not in said.out


def test_it_begins_and_ends_while_no_frames_come(tmp_path, capsys):
    with RecordingSwitch(opened, tmp_path) as switch:
        switch.wanted = True
        switch.turn()
        assert switch.path is not None
        switch.wanted = False
        finish(switch)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_two_things_made_within_a_second_have_two_names(tmp_path):
    made = {stamped(tmp_path, ".png")}
    for _ in range(3):
        path = stamped(tmp_path, ".png")
        path.touch()
        made.add(path)
    assert len(made) >= 3
