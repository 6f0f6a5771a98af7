"""A recording that is switched on and off: real files, opened by the loop's thread, switched by another thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from doubles.made_up_results import grey_result, played
from iern.runtime.errors import IernError
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.queued_sink import QueuedSink, queued_sink
from iern.runtime.outputs.video.recording import recording
from iern.runtime.outputs.video.recording_switch import RecordingSwitch, timestamped_path


@contextlib.contextmanager
def opened(path: Path) -> Iterator[QueuedSink]:
    with recording(path, 10) as sink, queued_sink(sink, str(path), live=False, pictures=True) as output:
        yield output


def result(index: int) -> FrameResult:
    return grey_result(20 * index % 256, index / 10)


def finish(switch: RecordingSwitch) -> None:
    """Call `update`, as the loop does, until the recording is finished."""
    deadline = time.monotonic() + 60
    while switch.path is not None:
        switch.update()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_first_recording_begins_at_once_and_later_ones_have_files_of_their_own(tmp_path, capsys):
    first = tmp_path / "first.mp4"
    with RecordingSwitch(opened, tmp_path, first) as switch:
        for index in range(5):
            switch(result(index))
        assert switch.path == first
        thread = threading.Thread(target=lambda: setattr(switch, "wanted", False))
        thread.start()
        thread.join()
        for index in range(5, 10):
            switch(result(index))
        finish(switch)
        assert len(played(first)) == 5, "the file is whole when the recording is off"
        switch.wanted = True
        for index in range(10, 13):
            switch(result(index))
        (second,) = [switch.path]
        assert second is not None and second != first
    assert len(played(second)) == 3
    assert capsys.readouterr().out.splitlines() == [f"wrote {first}", f"wrote {second}"]


def test_nothing_is_written_unless_a_recording_is_wanted(tmp_path, capsys):
    with RecordingSwitch(opened, tmp_path) as switch:
        switch(result(0))
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_later_recording_that_cannot_be_written_is_reported_and_the_loop_continues(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    with RecordingSwitch(opened, tmp_path / "file" / "folder") as switch:
        switch.wanted = True
        switch(result(0))
        switch(result(1))
        assert not switch.wanted
        assert "file" in switch.failure
    assert capsys.readouterr().err.count("the loop continues without this recording") == 1


def test_a_first_recording_that_cannot_begin_is_an_error_before_the_first_frame(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((OSError, IernError)), RecordingSwitch(opened, tmp_path, tmp_path / "file" / "first.mp4"):
        pass


def test_a_recording_that_fails_is_switched_off_and_another_can_begin(tmp_path, capsys):
    @contextlib.contextmanager
    def failing(path: Path) -> Iterator[QueuedSink]:
        def full(each: FrameResult) -> None:
            raise OSError(28, "No space left on device")

        with queued_sink(full, str(path), live=False, pictures=True) as output:
            yield output

    def first_failing(path: Path) -> contextlib.AbstractContextManager[QueuedSink]:
        return failing(path) if path.name == "first.mp4" else opened(path)

    with RecordingSwitch(first_failing, tmp_path, tmp_path / "first.mp4") as switch:
        for index in range(20):
            switch(result(index))
        finish(switch)
        assert not switch.wanted
        assert switch.failure.startswith(f"{tmp_path / 'first.mp4'}: cannot be written (No space left on device); free")
        switch.wanted = True
        switch(result(1000))
        second = switch.path
    assert second is not None
    assert len(played(second)) == 1
    assert f"wrote {second}" in capsys.readouterr().out


def test_the_loop_does_not_wait_until_a_slow_disk_has_a_recording_and_the_next_one_begins_after_it(tmp_path, capsys):
    """The disk blocks the first recording until the loop has had five more frames."""
    disk, opened_paths = threading.Event(), []

    @contextlib.contextmanager
    def on_a_slow_disk(path: Path) -> Iterator[QueuedSink]:
        opened_paths.append(path)
        with queued_sink(lambda _: disk.wait(30), str(path), live=True, pictures=True) as output:
            yield output

    with RecordingSwitch(on_a_slow_disk, tmp_path, tmp_path / "first.mp4") as switch:
        for index in range(5):
            switch(result(index))
        began, switch.wanted = time.monotonic(), False
        for index in range(5, 10):
            switch(result(index))
        switch.wanted = True
        switch.update()
        assert time.monotonic() - began < 10, "the loop waited"
        assert switch.path == tmp_path / "first.mp4", "it is not finished yet"
        disk.set()
        deadline = time.monotonic() + 60
        while len(opened_paths) < 2 and time.monotonic() < deadline:
            switch.update()
            time.sleep(0.01)
        assert switch.path == opened_paths[1]
    assert capsys.readouterr().out == f"wrote {tmp_path / 'first.mp4'}\n"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("of some kind")])
def test_a_recording_that_cannot_be_finished_is_reported_and_the_loop_continues(tmp_path, capsys, error):
    @contextlib.contextmanager
    def failing_at_its_end(path: Path) -> Iterator[QueuedSink]:
        with queued_sink(lambda _: None, str(path), live=True, pictures=True) as output:
            yield output
        raise error

    with RecordingSwitch(failing_at_its_end, tmp_path, tmp_path / "first.mp4") as switch:
        switch(result(0))
        switch.wanted = False
        finish(switch)
        assert str(error) in switch.failure
    printed = capsys.readouterr()
    assert printed.err.count("the loop continues without this recording") == 1
    assert "wrote" not in printed.out


def test_a_recording_begins_and_ends_while_no_frames_come(tmp_path, capsys):
    with RecordingSwitch(opened, tmp_path) as switch:
        switch.wanted = True
        switch.update()
        assert switch.path is not None
        switch.wanted = False
        finish(switch)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_two_files_made_within_a_second_have_two_names(tmp_path):
    made = {timestamped_path(tmp_path, ".png")}
    for _ in range(3):
        path = timestamped_path(tmp_path, ".png")
        path.touch()
        made.add(path)
    assert len(made) >= 3
