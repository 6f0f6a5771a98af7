"""The live page's addresses for other programs: the last record, events, Motion JPEG and one picture."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import threading
import time

import aiohttp
import cv2
import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="pip install 'iern[serve]'")

from doubles.servers.page_client import fetch, in_thread, numbered_result, page, read_message, until, viewers
from iern.runtime.drawing.grid import Tile
from iern.runtime.outputs.records import json_record
from iern.runtime.serve import feed, long_responses

TOKEN = "a-long-word-of-mine"


def looping(sink, grey=(60, 180)):
    """Results of alternating grey levels, until the block ends."""

    def run(over):
        index = 0
        while not over.wait(0.05):
            sink(numbered_result(grey[index % 2]))
            index += 1

    return in_thread(run)


def test_the_last_record_is_that_of_the_last_frame_with_the_state_of_the_source(capsys):
    with page(capsys) as (sink, url):
        assert fetch(f"{url}faces.json").status == 503
        for index in (3, 4):
            sink(numbered_result(index, faces=2, dropped=7))
        reply = fetch(f"{url}faces.json")
        assert reply.headers["Content-Type"].startswith("application/json")
        found = json.loads(reply.text)
    expected = json.loads(json.dumps(json_record(numbered_result(4, faces=2))))
    assert {key: found[key] for key in expected} == expected
    assert (found["frames"], found["dropped"], found["stalled"]) == (2, 7, False)
    assert 0 <= found["silence_seconds"] < 60


def events(url, sink, results, enough):
    """Records of the event stream, read by the rules of the HTML standard: lines, and a blank line after each event."""

    async def read():
        got = []
        async with aiohttp.ClientSession() as session, session.get(f"{url}events") as reply:
            assert reply.headers["Content-Type"].startswith("text/event-stream")
            data = []
            while len(got) < enough:
                sink(results[len(got) % len(results)])
                line = (await asyncio.wait_for(reply.content.readline(), 30)).decode().rstrip("\n")
                if line.startswith("data: "):
                    data.append(line.removeprefix("data: "))
                elif not line and data:
                    got.append(json.loads("\n".join(data)))
                    data = []
        return got

    return asyncio.run(read())


def test_events_carry_records_and_no_picture_is_drawn_for_them(capsys):
    drawn = []

    def picture(shown):
        drawn.append(shown)
        return shown.annotated

    with page(capsys, render=picture) as (sink, url):
        records = events(url, sink, [numbered_result(index) for index in range(50)], 10)
    assert drawn == []
    assert len(records) == 10
    expected = json.loads(json.dumps(json_record(numbered_result(records[-1]["frame"]))))
    assert {key: records[-1][key] for key in expected} == expected


def test_a_silent_source_sends_a_comment_so_that_a_listener_that_left_is_found(capsys, monkeypatch):
    monkeypatch.setattr(feed, "REPEAT_AFTER", 0.1)

    async def read(url):
        async with aiohttp.ClientSession() as session, session.get(f"{url}events") as reply:
            return [await asyncio.wait_for(reply.content.readline(), 30) for _ in range(6)]

    with page(capsys) as (_, url):
        assert asyncio.run(read(url)) == [b"retry: 2000\n", b"\n", *[b": no new frame\n", b"\n"] * 2]


@pytest.mark.parametrize("token", [None, TOKEN])
def test_ffmpeg_plays_the_motion_jpeg_with_the_token_as_password(capsys, token):
    with page(capsys, token=token) as (sink, url), looping(sink):
        address = url.replace("http://", f"http://anyone:{token}@" if token else "http://") + "stream.mjpg"
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG)
        try:
            pictures = [capture.read()[1] for _ in range(8)]
        finally:
            capture.release()
        levels = {round(float(np.median(picture)), -1) for picture in pictures}
        assert pictures[0].shape == (120, 160, 3)
    assert levels == {60, 180}


def test_nothing_is_sent_with_a_wrong_password(capsys):
    with page(capsys, token=TOKEN) as (sink, url), looping(sink):
        for path in ("stream.mjpg", "picture.jpg", "events", "faces.json"):
            reply = fetch(f"{url}{path}", auth=aiohttp.BasicAuth("anyone", "wrong"))
            assert reply.status == 401
            assert reply.headers["WWW-Authenticate"] == ('Basic realm="iern"' if path.endswith("g") else "Bearer")
            assert fetch(f"{url}{path}", headers={"Authorization": "Basic ====", "Host": "x"}).status == 401
        auth = aiohttp.BasicAuth("anyone", TOKEN)
        assert until(lambda: fetch(f"{url}faces.json", auth=auth).status == 200)


def test_one_picture_is_the_last_frame_and_its_viewer_is_not_counted_afterwards(capsys):
    async def read(url):
        async with aiohttp.ClientSession() as session, session.get(f"{url}picture.jpg") as reply:
            assert reply.content_type == "image/jpeg"
            return await reply.read()

    with page(capsys) as (sink, url):
        sink(numbered_result(20))
        sink(numbered_result(200))
        picture = cv2.imdecode(np.frombuffer(asyncio.run(read(url)), np.uint8), cv2.IMREAD_COLOR)
        assert until(lambda: viewers(url) == 0)
    assert np.abs(picture.astype(int) - numbered_result(200).annotated).mean() < 5


def test_before_the_first_frame_there_is_no_picture(capsys, monkeypatch):
    monkeypatch.setattr("iern.runtime.serve.program_routes.PICTURE_SECONDS", 0.2)
    with page(capsys) as (_, url):
        reply = fetch(f"{url}picture.jpg")
    assert (reply.status, reply.text) == (503, "no frame yet\n")


def test_listeners_count_among_the_viewers_that_may_watch(capsys, monkeypatch):
    monkeypatch.setattr(long_responses, "MOST_VIEWERS", 1)

    async def second(url):
        async with aiohttp.ClientSession() as session, session.get(f"{url}events") as first:
            await first.content.readline()
            async with session.get(f"{url}stream.mjpg") as refused:
                return refused.status

    with page(capsys) as (_, url):
        assert asyncio.run(second(url)) == 503


def test_the_end_of_the_loop_ends_the_events_and_the_motion_jpeg_at_once(capsys):
    async def read(url, opened):
        async with aiohttp.ClientSession() as session, session.get(url) as reply:
            with contextlib.suppress(aiohttp.ClientError):
                await reply.content.readline()
                opened.release()
                while await reply.content.read(1 << 16):
                    pass

    opened = threading.Semaphore(0)
    with contextlib.ExitStack() as stack:
        with page(capsys) as (sink, url):
            for path in ("events", "stream.mjpg"):
                thread = threading.Thread(target=lambda path=path: asyncio.run(read(url + path, opened)))
                thread.start()
                stack.callback(thread.join, 60)
            sink(numbered_result(0))
            assert all(opened.acquire(timeout=60) for _ in range(2))
            began = time.monotonic()
        assert time.monotonic() - began < 10


def of_source(source, result):
    """The result as one of several sources gives it."""
    return dataclasses.replace(result, frame=dataclasses.replace(result.frame, source=source))


def as_grid(result, *faces):
    """The result as a grid of sources with those numbers of faces."""
    tiles = [Tile(0, 0, 80, 120, f"camera {place}", faces=count) for place, count in enumerate(faces)]
    return dataclasses.replace(result, tiles=tiles)


def test_of_several_sources_the_last_record_of_each_is_sent_and_the_grid_is_the_picture(capsys):
    with page(capsys) as (sink, url):
        assert fetch(f"{url}faces.json").status == 503
        sink(of_source("front", numbered_result(1, dropped=2)))
        sink(of_source("back", numbered_result(2, faces=2, dropped=3)))
        sink(of_source("front", numbered_result(5, dropped=4)))
        sink(as_grid(numbered_result(200, faces=3), 1, 2))
        found = json.loads(fetch(f"{url}faces.json").text)
        metrics = fetch(f"{url}metrics").text

        async def first_message():
            async with aiohttp.ClientSession() as session, session.get(f"{url}stream") as reply:
                return await read_message(reply.content)

        message, picture = asyncio.run(first_message())
    assert [(record["source"], record["frame"]) for record in found["sources"]] == [("front", 5), ("back", 2)]
    assert (found["frames"], found["dropped"]) == (3, 7)
    assert [face["source"] for face in message["faces"]] == ["camera 0", "camera 1", "camera 1"]
    assert np.median(picture) == pytest.approx(200, abs=8), "the picture is the grid, not a frame"
    counts = dict(re.findall(r'^iern_source_frames_total{source="(.*)"} (.*)$', metrics, re.MULTILINE))
    assert counts == {"front": "2.0", "back": "1.0"}
    assert "\niern_frames_total 3.0\n" in metrics and "\niern_dropped_frames_total 7.0\n" in metrics


def test_events_of_several_sources_leave_none_out(capsys):
    results = [of_source(f"camera {index % 4}", numbered_result(index)) for index in range(40)]
    with page(capsys) as (sink, url):
        for result in results[:4]:
            sink(result)
        records = events(url, sink, results, 12)
    assert {record["source"] for record in records} == {f"camera {number}" for number in range(4)}
    for source in {record["source"] for record in records}:
        frames = [record["frame"] for record in records if record["source"] == source]
        assert frames == sorted(frames)
