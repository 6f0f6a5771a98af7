"""A recording that is switched on and off: real files, from the thread of the loop, asked for by another."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from iern.runtime.errors import OutputError
from iern.runtime.latency import Latency
from iern.runtime.outputs import recording
from iern.runtime.record_switch import RecordSwitch, stamped
from iern.runtime.sources import Frame
from iern.runtime.view import View


def view(index: int) -> View:
    image = np.full((48, 64, 3), 20 * index % 256, np.uint8)
    return View(Frame(image, index / 10, index, "made", 0.0), [], Latency(1, 1, 1, 3), "")


def frames_in(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    return sum(1 for _ in iter(lambda: capture.read()[0], False))


def test_what_is_asked_for_from_the_start_begins_at_once_and_later_ones_have_files_of_their_own(tmp_path, capsys):
    first = tmp_path / "first.avi"
    with RecordSwitch(lambda path: recording(path, 10), tmp_path, first) as switch:
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
    with RecordSwitch(lambda path: recording(path, 10), tmp_path) as switch:
        switch(view(0))
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_later_recording_that_cannot_be_written_is_said_and_the_loop_goes_on(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    with RecordSwitch(lambda path: recording(path, 10), tmp_path / "file" / "folder") as switch:
        switch.wanted = True
        switch(view(0))
        switch(view(1))
        assert not switch.wanted
    assert capsys.readouterr().out.count("note: the recording has ended: ") == 1


def test_the_one_from_the_start_that_cannot_be_written_ends_the_loop(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "first.avi"
    with (
        RecordSwitch(lambda path: recording(path, 10), tmp_path, path) as switch,
        pytest.raises((OSError, OutputError)),
    ):
        switch(view(0))


def test_two_things_made_within_a_second_have_two_names(tmp_path):
    made = {stamped(tmp_path, ".png")}
    for _ in range(3):
        path = stamped(tmp_path, ".png")
        path.touch()
        made.add(path)
    assert len(made) >= 3
