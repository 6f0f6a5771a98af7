"""A choice of sources, with real films: what is watched changes, and time, numbers and segments go on."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from iern.runtime.capture import open_source
from iern.runtime.chosen import Chosen, named
from iern.runtime.errors import SourceError
from iern.runtime.source_settings import SourceSettings


def film(path: Path, frames: int) -> str:
    """So many frames at 10 a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 20 * number % 200, np.uint8))
    writer.release()
    return str(path)


@pytest.fixture
def long_and_short(tmp_path) -> tuple[str, str]:
    return film(tmp_path / "long.avi", 600), film(tmp_path / "short.avi", 6)


def test_names_tell_sources_apart_and_no_secret():
    specs = ["0", "rtsp://me:secret@hall/cam?channel=1", "rtsp://me:secret@hall/cam?channel=2", "0", "film.mp4"]
    names = named(specs)
    assert list(names) == ["camera 0", "rtsp://hall/cam", "rtsp://hall/cam (2)", "film.mp4"]
    assert list(names.values()) == [*specs[:3], "film.mp4"]


def test_another_source_takes_over_and_the_clock_goes_on_until_its_end(long_and_short):
    long, short = long_and_short
    frames = []
    with Chosen(open_source(long), long, [short], SourceSettings()) as source:
        asking = threading.Thread(target=source.choose, args=(short,))
        for frame in source:
            frames.append(frame)
            if len(frames) == 3:
                asking.start()
        asking.join()
        assert (source.name, source.chosen, source.state) == ("short.avi", short, "ended")
    assert [name for name, _ in itertools.groupby(frame.name for frame in frames)] == ["long.avi", "short.avi"]
    assert {(frame.name, frame.segment) for frame in frames} == {("long.avi", 0), ("short.avi", 1)}
    assert all(a.time < b.time and a.index < b.index for a, b in itertools.pairwise(frames))
    last = [frame.time for frame in frames if frame.segment == 1]
    assert len(last) == 6
    assert last[-1] - last[0] > 0.4, "a film plays at its own speed, which is half a second here"


def test_a_source_that_does_not_open_changes_nothing(long_and_short):
    long, _ = long_and_short
    with Chosen(open_source(long), long, ["nowhere.mp4"], SourceSettings()) as source:
        with pytest.raises(SourceError, match=r"nowhere\.mp4: no such file"):
            source.choose("nowhere.mp4")
        assert source.chosen == long
        assert next(iter(source)).name == "long.avi"


def test_it_is_stopped_between_two_frames_of_a_film(tmp_path):
    slow = tmp_path / "photos"
    slow.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(slow / name), np.zeros((8, 8, 3), np.uint8))
    with Chosen(open_source(slow), str(slow), [], SourceSettings()) as source:
        threading.Timer(0.2, source.stop).start()
        began = time.monotonic()
        assert [frame.name for frame in source] == ["a.png"]
        assert time.monotonic() - began < 0.9, "the second image is due after a second"
