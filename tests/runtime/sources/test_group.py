"""Several sources together: every frame of files, the latest of cameras, and none waits for another."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest

from doubles.servers.mjpeg_server import mjpeg_server
from iern.runtime.errors import SourceError
from iern.runtime.sources.base import Frame, Source
from iern.runtime.sources.group import STEP, SourceGroup, frame_batches
from iern.runtime.sources.open_source import open_source


class Made(Source):
    """A file of `count` grey frames. `error` is raised after them."""

    def __init__(self, name: str, count: int, fps: float = 25, error: Exception | None = None) -> None:
        super().__init__(name, fps)
        self._count, self._error = count, error

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._count):
            if self._stopped:
                return
            yield Frame(np.zeros((8, 8, 3), np.uint8), index / self.fps, index, self.name, time.monotonic())
        self._finished = True
        if self._error:
            raise self._error


class Silent(Source):
    """A camera whose connection is open, and which sends nothing."""

    live = True

    def __iter__(self) -> Iterator[Frame]:
        while not self._stopped:
            time.sleep(0.01)
        yield from ()


def indices(frames) -> dict[str, list[int]]:
    """Source -> the numbers of its frames, in the order in which they came."""
    found = defaultdict(list)
    for frame in frames:
        found[frame.source].append(frame.index)
    return dict(found)


def test_every_frame_of_files_comes_once_in_order_and_together_with_those_of_the_same_time():
    with SourceGroup({"fast": Made("fast.mp4", 60, 30), "slow": Made("slow.mp4", 20, 10)}) as group:
        with frame_batches(group) as frames:
            batches = list(frames)
        assert group.state == "ended"
    assert indices(itertools.chain(*batches)) == {"fast": list(range(60)), "slow": list(range(20))}
    for batch in batches:
        assert len({frame.source for frame in batch}) == len(batch)
        assert max(frame.time for frame in batch) - min(frame.time for frame in batch) <= STEP
    starts = [min(frame.time for frame in batch) for batch in batches]
    assert starts == sorted(starts)
    assert sum(len(batch) == 2 for batch in batches) == 20, "each frame of the slow one has the time of a fast one"


def test_a_file_that_fails_does_not_end_the_others_and_its_error_comes_at_the_end(capsys):
    members = {"bad": Made("bad.mp4", 3, error=SourceError("bad.mp4: damaged")), "good": Made("good.mp4", 10)}
    seen = []
    with SourceGroup(members) as group, frame_batches(group) as batches, pytest.raises(SourceError, match="damaged"):
        for batch in batches:
            seen += batch
    assert indices(seen) == {"bad": [0, 1, 2], "good": list(range(10))}
    assert isinstance(group.failure, SourceError)
    assert "warning: bad.mp4: damaged; the other sources continue" in capsys.readouterr().err


def test_a_silent_camera_holds_neither_another_camera_nor_a_file_back():
    images = [np.full((48, 64, 3), level, np.uint8) for level in range(60, 90)]
    with (
        mjpeg_server(images, pause=0.01, then="repeat") as playing,
        open_source(f"http://{playing}/b") as b,
        SourceGroup({"a": Silent("a", 0), "b": b, "file": Made("file.mp4", 12, 50)}) as group,
    ):
        assert group.live
        frames = []
        with frame_batches(group) as batches:
            for batch in batches:
                frames += batch
                found = indices(frames)
                if len(found.get("b", ())) >= 12 and len(found.get("file", ())) >= 12:
                    break
    assert found["file"] == list(range(12)), "a file loses no frame beside a camera"
    assert found["b"] == sorted(set(found["b"]))
    due = [frame for frame in frames if frame.source == "file"]
    assert all(frame.captured - due[0].captured >= frame.time - 0.01 for frame in due), "it plays at its own speed"


def test_of_a_slow_loop_each_camera_drops_its_own_frames_and_keeps_the_latest():
    images, frames = [np.full((48, 64, 3), level, np.uint8) for level in range(60, 90)], []
    with (
        mjpeg_server(images, pause=0.005, then="repeat") as address,
        open_source(f"http://{address}/a") as a,
        open_source(f"http://{address}/b") as b,
        SourceGroup({"a": a, "b": b}) as group,
        frame_batches(group) as batches,
    ):
        for batch in batches:
            frames += batch
            time.sleep(0.1)
            if group.dropped_of("a") > 5 and group.dropped_of("b") > 5:
                break
    found = indices(frames)
    assert all(numbers == sorted(set(numbers)) for numbers in found.values())
    assert min(numbers[-1] + 1 - len(numbers) for numbers in found.values()) > 0


def test_stopping_the_group_ends_every_source_at_once():
    with SourceGroup({"one": Made("one", 10**9), "two": Made("two", 10**9)}) as group:
        with frame_batches(group) as batches:
            next(batches)
            group.stop()
            assert len(list(batches)) < 10
        assert group.stopped and all(member.stopped for member in group.members.values())
