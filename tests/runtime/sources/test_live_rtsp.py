"""A source recovers from a real RTSP server that is killed, restarted with another frame size, stopped or frozen."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from doubles.made_up_results import played
from doubles.servers.rtsp_server import free_port, rtsp_problem, rtsp_server
from iern.runtime.errors import SourceError
from iern.runtime.sources.open_source import open_source
from iern.runtime.sources.settings import LiveTimeouts, SourceSettings

pytestmark = [pytest.mark.skipif(bool(rtsp_problem()), reason=rtsp_problem() or "-"), pytest.mark.slow]

LONG = 120.0
"""Seconds in which even a slow machine finishes any step."""


def wait_for(condition, failure: str) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.05)


def test_a_killed_server_that_returns_with_another_size_is_reopened_and_its_password_is_never_printed(caplog):
    port, user, password = free_port(), "user", "s3cr3t"
    with rtsp_server(port, user=user, password=password):
        source = open_source(f"rtsp://{user}:{password}@127.0.0.1:{port}/cam")
        frames = list(itertools.islice(source, 10))
    with source:
        wait_for(lambda: source.state == "reconnecting", "the loss was not noticed")
        time.sleep(1.0)
        assert source.state == "reconnecting"
        with rtsp_server(port, size="640x360", user=user, password=password):
            frames += [next(frame for frame in source if frame.segment > 0)]
            frames += list(itertools.islice(source, 10))
            assert (source.state, source.reconnects) == ("live", 1)
            names = [thread.name for thread in threading.enumerate()]
    assert [frame.image.shape[:2] for frame in frames] == [(240, 320)] * 10 + [(360, 640)] * 11
    assert all(earlier.time < later.time for earlier, later in itertools.pairwise(frames))
    output = " ".join([caplog.text, source.note, source.name, source.details, source.problem, *names])
    assert password not in output
    assert f"rtsp://127.0.0.1:{port}/cam: recovered after " in caplog.text
    assert "FFmpeg" in source.details or "GStreamer" in source.details


def test_the_loop_survives_a_lost_server_and_its_recording_continues_in_another_file(tmp_path, model):
    """The server is killed and returns with another size; then SIGTERM. The password is in no output and no file."""
    port, user, password = free_port(), "user", "s3cr3t"
    lines, log = tmp_path / "out.jsonl", tmp_path / "log"
    command = [sys.executable, "-m", "iern.runtime.webcam", "--headless", "--model", model]
    command += ["--source", f"rtsp://{user}:{password}@127.0.0.1:{port}/cam"]
    command += ["--record", str(tmp_path / "out.mp4"), "--jsonl", str(lines), "--csv", str(tmp_path / "out.csv")]

    def has_records(segment: int) -> bool:
        records = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
        return len([record for record in records if record["segment"] == segment]) > 10

    with contextlib.ExitStack() as stack:
        first = stack.enter_context(rtsp_server(port, user=user, password=password))
        output = stack.enter_context(open(log, "w", encoding="utf-8"))
        process = stack.enter_context(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
        stack.callback(process.kill)
        wait_for(lambda: lines.exists() and has_records(0), "no frame came")
        first.kill()
        wait_for(lambda: "the connection was lost" in log.read_text(encoding="utf-8"), "the loss was not noticed")
        stack.enter_context(rtsp_server(port, size="640x360", user=user, password=password))
        wait_for(lambda: has_records(1), "it did not recover")
        process.terminate()
        assert process.wait(LONG) == 0, log.read_text(encoding="utf-8")
    shapes = [{image.shape[:2] for image in played(tmp_path / name)} for name in ("out.mp4", "out-001.mp4")]
    assert shapes == [{(240, 320)}, {(360, 640)}]
    assert sorted(path.name for path in tmp_path.glob("out*.mp4")) == ["out-001.mp4", "out.mp4"]
    assert "the recording continues in" in log.read_text(encoding="utf-8")
    assert not [path.name for path in tmp_path.iterdir() if password.encode() in path.read_bytes()]


def test_a_source_whose_server_stops_answering_is_stalled_and_then_recovers(caplog):
    port = free_port()
    before = threading.active_count()
    with rtsp_server(port) as server, open_source(f"rtsp://127.0.0.1:{port}/cam") as source:
        list(itertools.islice(source, 5))
        server.send_signal(signal.SIGSTOP)
        wait_for(lambda: source.state == "stalled", "the stall was not noticed")
        wait_for(lambda: source.state == "reconnecting", "it was not reopened")
        assert threading.active_count() <= before + 3
        server.send_signal(signal.SIGCONT)
        assert next(frame for frame in source if frame.segment > 0).image.shape == (240, 320, 3)
        wait_for(lambda: source.state == "live", "it did not recover")
    assert "no frames for 4 s" in caplog.text
    wait_for(lambda: threading.active_count() <= before, "a thread still runs")


@pytest.mark.parametrize(("pattern", "state"), [("black", "black"), ("green", "stalled")])
def test_a_source_whose_server_sends_black_or_equal_frames_is_reported_and_reopened(pattern, state):
    port, states = free_port(), set()
    settings = SourceSettings(timeouts=LiveTimeouts(frozen=1.0))
    with rtsp_server(port, pattern), open_source(f"rtsp://127.0.0.1:{port}/cam", settings) as source:
        for frame in source:
            states.add(source.state)
            if frame.segment > 0:
                break
        assert source.repeated > 3
    assert state in states


def test_a_server_that_stays_away_is_given_up_if_that_is_requested():
    port = free_port()
    settings = SourceSettings(timeouts=LiveTimeouts(give_up=3.0))
    with rtsp_server(port):
        source = open_source(f"rtsp://user:secret@127.0.0.1:{port}/cam", settings)
    with source, pytest.raises(SourceError, match="not back within 3 s") as caught:
        list(source)
    assert "secret" not in str(caught.value)


def test_a_wrong_password_is_refused_at_the_start_without_being_shown():
    port = free_port()
    with (
        rtsp_server(port, user="user", password="right"),
        pytest.raises(SourceError, match="check the address, user and password") as caught,
    ):
        open_source(f"rtsp://user:secret@127.0.0.1:{port}/cam")
    assert "secret" not in str(caught.value)
