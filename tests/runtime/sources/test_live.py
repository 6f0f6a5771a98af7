"""A live source recovers from every failure of a camera that is injected here, or ends with an error and its cause."""

from __future__ import annotations

import contextlib
import itertools
import logging
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import pytest

from doubles.scripted_capture import ScriptedCapture, noise
from doubles.servers.mjpeg_server import mjpeg_server
from iern.runtime.errors import SourceError
from iern.runtime.sources import live
from iern.runtime.sources.base import Frame
from iern.runtime.sources.capture import OpenCapture, read_first_frame
from iern.runtime.sources.live import LiveSource
from iern.runtime.sources.open_source import open_source
from iern.runtime.sources.settings import LiveTimeouts, SourceSettings

LONG = 60.0
"""Seconds in which even a slow machine finishes any step. No test waits this long if all is well."""

ERROR = cv2.error("Unknown C++ exception from OpenCV code: rtsp://user:secret@host/x?token=secret")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(live, "LONGEST_PAUSE", 0.05)


def until(condition: Callable[[], object], failure: str = "it never happened") -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.01)


@contextlib.contextmanager
def camera(captures: Sequence[ScriptedCapture | Exception], **timeouts: float) -> Iterator[LiveSource]:
    """A live source whose n-th opening gives the n-th capture, or raises it. After the last one every opening fails."""
    openings = iter(captures)

    def connect() -> OpenCapture:
        capture = next(openings, SourceError("cam: not there"))
        if isinstance(capture, Exception):
            raise capture
        opened = read_first_frame(capture)
        if opened is None:
            raise SourceError("cam: no frame")
        return opened

    with LiveSource(
        connect(), "cam", connect, LiveTimeouts(**{"no_frames": LONG, "frozen": LONG, **timeouts})
    ) as source:
        yield source


@contextlib.contextmanager
def states_of(source: LiveSource) -> Iterator[set[str]]:
    """Collects the states that the source has until the block ends, however briefly, in a thread."""
    states: set[str] = set()
    over = threading.Event()

    def collect() -> None:
        while not over.wait(0.002):
            states.add(source.state)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield states
    finally:
        over.set()
        thread.join()


def first_of_each_segment(source: LiveSource, segments: int) -> list[Frame]:
    found: list[Frame] = []
    for frame in source:
        if not found or frame.segment > found[-1].segment:
            found.append(frame)
        if len(found) == segments:
            break
    return found


def test_a_camera_that_is_unplugged_and_plugged_in_again_continues_in_a_new_segment():
    captures = [ScriptedCapture(noise(5)), SourceError("cam: not there"), ScriptedCapture(noise())]
    with camera(captures) as source:
        before, after = first_of_each_segment(source, 2)
        assert (before.segment, after.segment) == (0, 1)
        assert (before.time, after.index > before.index) == (pytest.approx(0, abs=LONG), True)
        assert after.time > before.time
        assert (source.reconnects, source.state) == (1, "live")
        assert captures[0].released.is_set()
        assert source.note == "cam: reopened 1 time; the last reason: the connection was lost"
    assert source.state == "ended"
    assert captures[2].released.is_set()


@pytest.mark.parametrize(
    "fault", [None, ERROR, MemoryError("no room"), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 0, 3), np.uint8)]
)
def test_every_failure_of_a_read_is_survived(fault, caplog):
    captures = [ScriptedCapture([*noise(3), fault, *noise(3)]), ScriptedCapture(noise())]
    with camera(captures) as source:
        first_of_each_segment(source, 2)
        assert source.reconnects == 1
    assert caplog.records, "a loss is not logged"
    assert "secret" not in caplog.text + source.note


@pytest.mark.parametrize("fault", [SourceError("cam: not there"), ERROR, ValueError("a bug"), MemoryError()])
def test_every_failure_of_an_opening_is_survived(fault, caplog):
    with camera([ScriptedCapture(noise(3)), fault, fault, ScriptedCapture(noise())]) as source:
        first_of_each_segment(source, 2)
    assert "secret" not in caplog.text + source.note


def test_a_new_size_after_a_reconnect_or_in_the_stream_begins_a_segment():
    captures = [ScriptedCapture([*noise(5), *noise(5, 321, 241)]), ScriptedCapture(noise(None, 17, 4096))]
    with camera(captures) as source:
        segments = {}
        for frame in source:
            segments.setdefault(frame.segment, set()).add(frame.image.shape)
            if frame.image.shape[0] == 4096:
                break
    assert all(len(shapes) == 1 for shapes in segments.values())
    assert list(segments) == sorted(segments)


def test_time_and_index_only_grow_over_reconnects():
    captures = [ScriptedCapture(noise(4)) for _ in range(5)] + [ScriptedCapture(noise())]
    with camera(captures) as source:
        frames = list(itertools.takewhile(lambda frame: frame.segment < 5, source))
    for earlier, later in itertools.pairwise(frames):
        assert earlier.time < later.time
        assert earlier.index < later.index
        assert earlier.segment <= later.segment


def test_a_source_whose_read_blocks_is_stalled_and_is_reopened_when_the_read_returns():
    gate = threading.Event()
    captures = [ScriptedCapture([*noise(3), gate.wait, *noise(9)]), ScriptedCapture(noise())]
    with camera(captures, no_frames=0.5) as source:
        until(lambda: source.state == "stalled", "the stall was not noticed")
        until(lambda: source.problem.startswith("no frames for "))
        assert not captures[0].released.is_set(), "a capture must not be released under a read"
        gate.set()
        until(lambda: source.reconnects == 1)
        assert captures[0].released.is_set()
        assert (next(iter(source)).segment, len(captures[0].read_in)) == (
            1,
            2,
        )  # opening thread, own thread


def test_reads_that_never_return_do_not_accumulate_threads():
    gate = threading.Event()
    captures = [ScriptedCapture([*noise(3), gate.wait]) for _ in range(50)]
    before = threading.active_count()
    with camera(captures, no_frames=0.05, blocked=0.05) as source:
        until(lambda: source.reconnects == 1, "one blocked thread is abandoned")
        time.sleep(1.0)
        assert threading.active_count() <= before + 3  # the watching one, a reader, and an abandoned one
        assert source.state in ("stalled", "reconnecting")
        gate.set()
        until(lambda: source.reconnects > 3, "it continues when they return")
    until(lambda: threading.active_count() <= before)


def test_a_frame_of_a_connection_that_was_given_up_is_not_shown():
    gate = threading.Event()
    old, new = np.full((48, 64, 3), 77, np.uint8), noise()
    captures = [ScriptedCapture([*noise(3), gate.wait, old, old]), ScriptedCapture(new)]
    with camera(captures, no_frames=0.3, blocked=0.05) as source:
        until(lambda: source.reconnects == 1)
        seen = []
        for frame in source:
            gate.set()
            seen.append(frame.image)
            if captures[0].released.is_set() and len(seen) > 20:
                break
    assert not any(np.array_equal(image, old) for image in seen)


@pytest.mark.parametrize(("level", "state"), [(0, "black"), (120, "stalled")])
def test_a_source_whose_frames_stay_black_or_equal_is_reported_and_reopened(level, state, caplog):
    dead = np.full((48, 64, 3), level, np.uint8)
    captures = [ScriptedCapture(itertools.chain(noise(3), itertools.repeat(dead))), ScriptedCapture(noise())]
    with camera(captures, frozen=0.5) as source:
        with states_of(source) as states:
            first_of_each_segment(source, 2)
        until(lambda: source.state == "live")
        assert source.reconnects == 1
        assert source.repeated > 3
    assert state in states
    assert ("black frames" if level == 0 else "equal frames") in caplog.text
    assert captures[0].released.is_set()


def test_a_test_card_is_reopened_ever_more_rarely():
    card = np.full((48, 64, 3), 120, np.uint8)
    captures = [ScriptedCapture(itertools.repeat(card)) for _ in range(100)]
    with camera(captures, frozen=0.2) as source:
        start = time.monotonic()
        until(lambda: source.reconnects >= 3)
        assert time.monotonic() - start >= 0.2 + 0.4 + 0.8
        assert source.state in ("stalled", "reconnecting")
        assert next(iter(source)).image.mean() == 120, "it is shown all the same"


def test_no_reconnect_means_an_error_at_the_first_loss_that_names_the_cause():
    captures = [ScriptedCapture([*noise(3), ERROR]), ScriptedCapture(noise())]
    with camera(captures, give_up=0) as source:
        with pytest.raises(
            SourceError, match=r"cam: lost after 3 frames .*the decoder failed .*; check its cable"
        ) as caught:
            list(source)
        assert (source.state, source.reconnects) == ("ended", 0)
    assert "secret" not in str(caught.value)


def test_a_camera_that_stays_away_is_given_up_after_the_set_time():
    lost = pytest.raises(SourceError, match=r"not back within 0\.5 s: .*; check its cable")
    with camera([ScriptedCapture(noise(3))], give_up=0.5) as source, lost:
        list(source)
    assert source.state == "ended"


def test_a_camera_that_blocks_for_ever_is_given_up_too():
    gate = threading.Event()
    with camera([ScriptedCapture([*noise(3), gate.wait])], no_frames=0.2, give_up=0.5) as source:
        with pytest.raises(SourceError, match="no frames for"):
            list(source)
        gate.set()


def test_a_camera_that_stays_away_is_tried_at_growing_intervals_and_reported_once(monkeypatch, caplog):
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(live, "LONGEST_PAUSE", 0.4)
    tries = []

    def connect() -> OpenCapture:
        tries.append(time.monotonic())
        raise SourceError("cam: not there; plug it in")

    opened = read_first_frame(ScriptedCapture(noise(3)))
    with LiveSource(opened, "cam", connect) as source:
        until(lambda: len(tries) == 5)
        assert source.state == "reconnecting"
        assert source.problem == "not there; plug it in"
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert all(pause >= least for pause, least in zip(pauses, (0.2, 0.4, 0.4, 0.4), strict=True))
    assert [record.getMessage() for record in caplog.records] == [
        "cam: the connection was lost",
        "cam: not there; plug it in",
    ]


def test_stop_ends_a_long_wait_for_a_lost_camera(monkeypatch):
    monkeypatch.setattr(live, "FIRST_PAUSE", 10 * LONG)
    with camera([ScriptedCapture(noise(3))]) as source:
        until(lambda: source.state == "reconnecting")
        threading.Timer(0.2, source.stop).start()
        start = time.monotonic()
        list(source)
    assert time.monotonic() - start < LONG


def test_a_bug_in_the_watching_thread_reaches_the_consumer_of_the_frames(monkeypatch):
    def broken(self, reader):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(LiveSource, "_wait_for_problem", broken)
    with camera([ScriptedCapture(noise())]) as source:
        with pytest.raises(SourceError, match="cam: ended by ZeroDivisionError: a bug"):
            list(source)
        assert source.state == "ended"


def test_closing_ends_every_thread_whatever_the_source_is_doing():
    before = threading.active_count()
    for captures in ([ScriptedCapture(noise())], [ScriptedCapture(noise(2))], [ScriptedCapture([*noise(2), ERROR])]):
        with camera(captures) as source:
            next(iter(source))
    until(lambda: threading.active_count() <= before, "a thread still runs")


def test_a_camera_is_reopened_in_the_requested_mode(monkeypatch):
    """`cv2.VideoCapture` is replaced; the rest is real, from `open_source` on, for two openings."""
    requested: list[list[tuple[int, float]]] = []

    class Camera(ScriptedCapture):
        def __init__(self, *_: object) -> None:
            super().__init__(noise(None if requested else 4))
            requested.append([])

        def set(self, number: int, value: float) -> bool:
            requested[-1].append((number, value))
            return True

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with open_source("0", SourceSettings(size=(1280, 720), fps=30, codec="MJPG")) as source:
        first_of_each_segment(source, 2)
        assert source.name == "camera 0"
        assert source.details == "64x48, 30 fps, read by SCRIPTED (requested: 1280x720, 30 fps, MJPG)"
    mjpg = float(cv2.VideoWriter.fourcc("M", "J", "P", "G"))
    mode = [
        (cv2.CAP_PROP_FOURCC, mjpg),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 30),
        (cv2.CAP_PROP_BUFFERSIZE, 1),
    ]
    assert requested[:2] == [mode] * 2


def test_a_web_camera_that_disappears_and_returns_is_reopened(caplog):
    images = list(noise(20))
    with mjpeg_server(images, pause=0.01) as address:
        port = int(address.rpartition(":")[2])
        source = open_source(f"http://user:secret@{address}/cam?token=secret")
        next(iter(source))
    with source:
        until(lambda: source.state == "reconnecting")
        with mjpeg_server(images, pause=0.01, then="repeat", port=port):
            (frame, *_) = [frame for frame in itertools.islice(source, 50) if frame.segment > 0]
            assert frame.segment >= 1
            names = " ".join(thread.name for thread in threading.enumerate())
    assert "secret" not in " ".join([caplog.text, source.note, source.name, source.details, names, source.problem])
    assert source.name in caplog.text


@pytest.mark.slow
def test_a_web_camera_that_stops_sending_is_reopened(caplog):
    caplog.set_level(logging.WARNING)
    with (
        mjpeg_server(list(noise(20)), pause=0.01, then="hang") as address,
        open_source(f"http://{address}/cam") as source,
    ):
        first_of_each_segment(source, 2)
    assert "no frames for 4 s" in caplog.text


def test_a_signal_while_a_lost_source_is_reopened_ends_the_loop_without_waiting_for_the_connection(tmp_path):
    """The server accepts the second connection and never answers; opening it would take a minute."""
    program = textwrap.dedent(
        """
        import sys
        from iern.runtime.sources import streams
        from iern.runtime.system.command import leave
        from iern.runtime.webcam import main
        streams.OPEN_TIMEOUT_MS = streams.READ_TIMEOUT_MS = 60_000
        leave(main(sys.argv[1:]))
        """
    )
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with mjpeg_server([picture] * 5, pause=0.02) as address:
        port = int(address.rpartition(":")[2])
        command = [sys.executable, "-c", program, "--headless", "--source", f"http://{address}/cam"]
        command += ["--jsonl", str(tmp_path / "out.jsonl")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
        assert process.stderr
        assert "lost" in process.stderr.readline()
    with socket.create_server(("127.0.0.1", port)) as silent:
        connection, _ = silent.accept()
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(50) == 0
        assert time.monotonic() - start < 30
        connection.close()
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8").count("\n") > 0
    process.communicate()
