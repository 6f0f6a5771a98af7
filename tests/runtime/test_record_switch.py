"""A recording that is switched on and off: real files, from the thread of the loop, asked for by another."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from iern.runtime.background import Background, in_background
from iern.runtime.errors import IernError
from iern.runtime.latency import Latency
from iern.runtime.outputs import recording
from iern.runtime.record_switch import RecordSwitch, stamped
from iern.runtime.sources import Frame
from iern.runtime.view import View


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Background]:
    with recording(path, 10) as sink, in_background(sink, str(path), live=False, pictures=True) as output:
        yield output


def view(index: int) -> View:
    image = np.full((48, 64, 3), 20 * index % 256, np.uint8)
    return View(Frame(image, index / 10, index, "made", 0.0), [], Latency(1, 1, 1, 3), "")


def frames_in(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    return sum(1 for _ in iter(lambda: capture.read()[0], False))


def test_what_is_asked_for_from_the_start_begins_at_once_and_later_ones_have_files_of_their_own(tmp_path, capsys):
    first = tmp_path / "first.avi"
    with RecordSwitch(opened, tmp_path, first) as switch:
        for index in range(5):
            switch(view(index))
        assert switch.path == first
        thread = threading.Thread(target=lambda: setattr(switch, "wanted", False))
        thread.start()
        thread.join()
        for index in range(5, 10):
            switch(view(index))
        assert switch.path is None
        assert frames_in(first) == 5, "it is whole once it is off"
        switch.wanted = True
        for index in range(10, 13):
            switch(view(index))
        (second,) = [switch.path]
        assert second is not None and second != first
    assert frames_in(second) == 3
    assert capsys.readouterr().out.splitlines() == [f"wrote {first}", f"wrote {second}"]


def test_nothing_is_written_that_nobody_asked_for(tmp_path, capsys):
    with RecordSwitch(opened, tmp_path) as switch:
        switch(view(0))
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_later_recording_that_cannot_be_written_is_said_and_the_loop_goes_on(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    with RecordSwitch(opened, tmp_path / "file" / "folder") as switch:
        switch.wanted = True
        switch(view(0))
        switch(view(1))
        assert not switch.wanted
        assert "file" in switch.failure
    assert capsys.readouterr().err.count("the loop goes on without this recording") == 1


def test_the_one_from_the_start_that_cannot_begin_is_an_error_before_the_first_frame(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((OSError, IernError)), RecordSwitch(opened, tmp_path, tmp_path / "file" / "first.avi"):
        pass


def test_a_recording_that_fails_on_the_way_is_off_and_another_can_begin(tmp_path, capsys):
    @contextlib.contextmanager
    def failing(path: Path) -> Iterator[Background]:
        def full(each: View) -> None:
            raise OSError(28, "No space left on device")

        with in_background(full, str(path), live=False, pictures=True) as output:
            yield output

    def first_failing(path: Path) -> contextlib.AbstractContextManager[Background]:
        return failing(path) if path.name == "first.avi" else opened(path)

    with RecordSwitch(first_failing, tmp_path, tmp_path / "first.avi") as switch:
        for index in range(1000):
            switch(view(index))
            if not switch.wanted:
                break
        assert (switch.wanted, switch.path) == (False, None)
        assert switch.failure == f"{tmp_path / 'first.avi'}: No space left on device"
        switch.wanted = True
        switch(view(1000))
        second = switch.path
    assert second is not None
    assert frames_in(second) == 1
    assert f"wrote {second}" in capsys.readouterr().out


def test_it_begins_and_ends_while_no_frames_come(tmp_path, capsys):
    with RecordSwitch(opened, tmp_path) as switch:
        switch.wanted = True
        switch.turn()
        assert switch.path is not None
        switch.wanted = False
        switch.turn()
        assert switch.path is None
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_two_things_made_within_a_second_have_two_names(tmp_path):
    made = {stamped(tmp_path, ".png")}
    for _ in range(3):
        path = stamped(tmp_path, ".png")
        path.touch()
        made.add(path)
    assert len(made) >= 3
