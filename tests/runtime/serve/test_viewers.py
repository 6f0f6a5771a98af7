"""Many viewers, slow, stuck and gone: none of them delays the loop, and the server closes every connection."""

from __future__ import annotations

import contextlib
import gc
import os
import statistics
import struct
import threading
import time

import pytest

pytest.importorskip("aiohttp", reason="pip install 'iern[serve]'")

from doubles.servers.page_client import (
    fetch,
    in_thread,
    numbered_result,
    open_stream,
    page,
    thirty_viewers,
    until,
    viewers,
)
from iern.runtime.serve import long_responses

PERIOD = 1 / 30
"""Seconds between the results of the loop below."""


def handles() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def looping(sink, size=(480, 640)):
    """A loop at its own pace in a thread. Yields the seconds that each call of the sink took."""
    took = []
    shown = [numbered_result(index, size=size) for index in range(0, 240, 10)]

    def run(over: threading.Event) -> None:
        while not over.wait(PERIOD):
            began = time.perf_counter()
            sink(shown[len(took) % len(shown)])
            took.append(time.perf_counter() - began)

    with in_thread(run):
        yield took


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_thirty_viewers_mostly_stuck_or_gone_do_not_delay_the_loop_and_leave_no_thread_or_file(capsys, monkeypatch):
    monkeypatch.setattr(long_responses, "SEND_TIMEOUT", 3.0)
    threads, files = threading.active_count(), handles()
    with page(capsys) as (sink, url), looping(sink) as took, thirty_viewers(url) as (stuck, read):
        del took[:]
        received = read(6)
        assert statistics.median(took) < 0.05 * PERIOD
        assert min(received) > 100_000
        assert until(lambda: viewers(url) <= 5), "the server still holds viewers that are stuck or gone"
        assert len(stuck) == 20
    assert until(lambda: threading.active_count() <= threads)
    assert until(lambda: handles() <= files)


def test_a_slow_viewer_misses_frames_and_is_not_shown_old_ones(capsys):
    """It reads a tenth of what is sent. What it gets is never older than the buffers can hold."""
    with page(capsys) as (sink, url), looping(sink), open_stream(url, receive=8192) as connection:
        file = connection.makefile("rb")
        while file.readline() not in (b"\r\n", b""):
            pass
        ages = []
        for _ in range(25):
            body = b""
            while len(body) < 8 or len(body) < 8 + sum(struct.unpack("!II", body[:8])):
                body += file.read(int(file.readline(), 16))  # a chunk
                file.readline()
            frames = int(body[8:].split(b'"frames": ')[1].split(b",")[0])
            (total,) = [
                float(one.split()[1])
                for one in fetch(f"{url}metrics").text.splitlines()
                if one.startswith("iern_frames_total")
            ]
            ages.append(total - frames)
            time.sleep(0.2)
        file.close()
    assert statistics.median(ages) < 90


def test_more_pages_than_the_server_holds_are_refused_with_the_reason(capsys, monkeypatch):
    monkeypatch.setattr(long_responses, "MOST_VIEWERS", 2)
    with page(capsys) as (sink, url), open_stream(url) as first, open_stream(url) as second:
        sink(numbered_result(0))
        assert first.recv(1) and second.recv(1)
        reply = fetch(f"{url}stream")
    assert (reply.status, reply.text) == (503, "2 pages are open already\n")


def test_the_end_of_the_loop_ends_the_streams_at_once(capsys):
    with contextlib.ExitStack() as stack:
        with page(capsys) as (sink, url):
            connections = [stack.enter_context(open_stream(url)) for _ in range(8)]
            sink(numbered_result(0))
            assert all(connection.recv(1) for connection in connections)
            began = time.monotonic()
        assert time.monotonic() - began < 5
        for connection in connections:
            with contextlib.suppress(ConnectionError):
                while connection.recv(1 << 16):
                    pass
