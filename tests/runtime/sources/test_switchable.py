"""Switching between sources, with real videos: time, index and segments continue when the source changes."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from iern.runtime.errors import SourceError
from iern.runtime.sources import switchable
from iern.runtime.sources.open_source import open_source
from iern.runtime.sources.settings import SourceSettings
from iern.runtime.sources.switchable import SwitchableSource, display_names


def write_video(path: Path, frames: int) -> str:
    """A video of N frames, 10 a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 20 * number % 200, np.uint8))
    writer.release()
    return str(path)


@pytest.fixture
def long_and_short(tmp_path) -> tuple[str, str]:
    return write_video(tmp_path / "long.avi", 600), write_video(tmp_path / "short.avi", 6)


def test_names_are_unique_and_contain_no_secret():
    specs = ["0", "rtsp://me:secret@hall/cam?channel=1", "rtsp://me:secret@hall/cam?channel=2", "0", "clip.mp4"]
    names = display_names(specs)
    assert list(names) == ["camera 0", "rtsp://hall/cam", "rtsp://hall/cam (2)", "clip.mp4"]
    assert list(names.values()) == [*specs[:3], "clip.mp4"]


def test_another_source_takes_over_and_time_continues(long_and_short):
    long, short = long_and_short
    frames = []
    with SwitchableSource(open_source(short), short, [long], SourceSettings()) as source:
        selecting = threading.Thread(target=source.select, args=(long,))
        for frame in source:
            frames.append(frame)
            if len(frames) == 3:
                selecting.start()
            if frame.name == "long.avi" and frame.index > 12:
                assert (source.name, source.selected, source.state) == ("long.avi", long, "live")
                break
        selecting.join()
    assert {(frame.name, frame.segment) for frame in frames} == {("short.avi", 0), ("long.avi", 1)}
    assert all(a.time < b.time and a.index < b.index for a, b in itertools.pairwise(frames))
    last = [frame.time for frame in frames if frame.segment == 1]
    assert last[-1] - last[0] > 0.4, "a video plays at its own speed"


def test_after_the_end_of_a_selected_video_the_first_source_takes_over_again_and_its_end_is_the_end(
    long_and_short, tmp_path, caplog
):
    first, (_, short) = write_video(tmp_path / "first.avi", 10), long_and_short
    frames = []
    with SwitchableSource(open_source(first), first, [short], SourceSettings()) as source:
        selecting = threading.Thread(target=source.select, args=(short,))
        for frame in source:
            if not frames:
                selecting.start()
            frames.append(frame)
            if frame.segment == 2:
                assert (source.name, source.selected) == ("first.avi", first)
        selecting.join()
        assert (source.state, len(source._open_sources)) == ("ended", 1), "ended sources are closed"
    found = {segment: [frame.name for frame in frames if frame.segment == segment] for segment in (0, 1, 2)}
    assert len(found[0]) < 10, "the first source was left early"
    assert (found[1], found[2]) == (["short.avi"] * 6, ["first.avi"] * 10)
    assert all(a.time < b.time and a.index < b.index for a, b in itertools.pairwise(frames))
    assert "short.avi: has ended; back to first.avi" in caplog.text


def test_a_source_that_is_selected_while_it_takes_over_again_is_opened_only_once(long_and_short, monkeypatch):
    """A viewer may select it when the video ends. A camera can be opened only once."""
    long, short = long_and_short
    opened, others = [], []

    def open_slowly(spec: str, settings: SourceSettings):
        opened.append(spec)
        if spec == long:
            others.append(threading.Thread(target=source.select, args=(long,)))
            others[0].start()
            time.sleep(0.3)
        return open_source(spec, settings)

    with SwitchableSource(open_source(long), long, [short], SourceSettings()) as source:
        monkeypatch.setattr(switchable, "open_source", open_slowly)
        select_short = threading.Thread(target=source.select, args=(short,))
        segments = []
        for frame in source:
            if not segments:
                select_short.start()
            segments.append((frame.segment, frame.name))
            if segments.count((2, "long.avi")) == 3:
                break
        for thread in (select_short, *others):
            thread.join()
        assert (opened, source.selected, len(source._open_sources)) == ([short, long], long, 1)
    assert list(dict.fromkeys(segments)) == [(0, "long.avi"), (1, "short.avi"), (2, "long.avi")]


def test_if_the_first_source_does_not_open_again_the_error_has_the_cause(long_and_short):
    long, short = long_and_short
    with SwitchableSource(open_source(long), long, [short], SourceSettings()) as source:
        selecting = threading.Thread(target=source.select, args=(short,))
        names = []
        with pytest.raises(SourceError, match=r"long\.avi: no such file"):
            for frame in source:
                if not names:
                    selecting.start()
                names.append(frame.name)
                if frame.name == "short.avi":
                    Path(long).unlink(missing_ok=True)
        selecting.join()
    assert names[-1] == "short.avi"


def test_a_source_that_does_not_open_changes_nothing(long_and_short):
    long, _ = long_and_short
    with SwitchableSource(open_source(long), long, ["nowhere.mp4"], SourceSettings()) as source:
        with pytest.raises(SourceError, match=r"nowhere\.mp4: no such file"):
            source.select("nowhere.mp4")
        assert source.selected == long
        assert next(iter(source)).name == "long.avi"


def test_it_can_be_stopped_between_two_frames_of_a_video(tmp_path):
    slow = tmp_path / "photos"
    slow.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(slow / name), np.zeros((8, 8, 3), np.uint8))
    with SwitchableSource(open_source(slow), str(slow), [], SourceSettings()) as source:
        threading.Timer(0.2, source.stop).start()
        began = time.monotonic()
        assert [frame.name for frame in source] == ["a.png"]
        assert time.monotonic() - began < 0.9, "the second image is due after a second"
