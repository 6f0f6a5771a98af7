"""The page's server on real sockets: the picture, the metrics, the buttons, and the errors."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import socket
import sys
from collections.abc import Sequence

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="pip install 'iern[serve]'")
pytest.importorskip("prometheus_client", reason="pip install 'iern[serve]'")

import aiohttp
from prometheus_client import parser

from doubles.servers.page_client import FakeControls, fetch, numbered_result, page, read_message, until, watch_page
from iern.runtime.app import command_line as options
from iern.runtime.errors import IernError, OutputError
from iern.runtime.outputs.records import json_record
from iern.runtime.serve.address import Address, parse_address
from iern.runtime.serve.routes import PAGE
from iern.runtime.serve.server import page_server


def samples(text: str) -> dict[tuple[str, str], float]:
    """The text for Prometheus, read by Prometheus' own parser -> values by name and label."""
    families = parser.text_string_to_metric_families(text)
    return {(s.name, "".join(s.labels.values())): s.value for family in families for s in family.samples}


@pytest.mark.parametrize(
    ("text", "address", "local_only"),
    [
        ("8080", Address("127.0.0.1", 8080), True),
        ("localhost:80", Address("localhost", 80), True),
        ("[::1]:8080", Address("::1", 8080), True),
        ("127.8.0.1:1", Address("127.8.0.1", 1), True),
        ("0.0.0.0:8080", Address("0.0.0.0", 8080), False),
        ("[::]:8080", Address("::", 8080), False),
        ("camera.lan:8080", Address("camera.lan", 8080), False),
    ],
)
def test_an_address_is_a_port_or_a_host_and_a_port_and_only_loopback_is_local(text, address, local_only):
    assert parse_address(text) == address
    assert address.local_only is local_only


@pytest.mark.parametrize(
    "text", ["", ":8080", "8080:", "::1:8080", "[::g]:80", "[10.0.0.1]:80", "65536", "a b:80", "-1"]
)
def test_a_wrong_address_is_refused_with_an_example(text, capsys):
    with pytest.raises(ValueError, match=re.escape("[::1]:8080")):
        parse_address(text)
    with pytest.raises(SystemExit):
        options.parse(["--serve", text])
    assert "[::1]:8080" in capsys.readouterr().err


def test_the_command_line_takes_the_page_its_token_and_its_sources(monkeypatch, capsys):
    monkeypatch.delenv("IERN_TOKEN", raising=False)
    found = options.parse(["--serve", "8080", "--allow-source", "0", "--allow-source", "rtsp://hall/1"])
    assert (found.serve, found.token, found.allow_source) == (Address("127.0.0.1", 8080), None, ("0", "rtsp://hall/1"))
    monkeypatch.setenv("IERN_TOKEN", "from the environment")
    assert options.parse([]).token == "from the environment"
    for argv in (["--serve", "8080", "--token", "short"], ["--allow-source", "1"]):
        with pytest.raises(SystemExit):
            options.parse(argv)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_the_printed_address_gives_the_page(address, capsys):
    with page(capsys, address) as (_, url):
        reply = fetch(url)
    assert reply.status == 200
    assert "<title>IERN</title>" in reply.text


def test_the_stream_carries_the_record_and_the_picture_of_the_same_frame(capsys):
    results = [numbered_result(index) for index in (40, 120, 200)]
    with page(capsys) as (sink, url):
        messages = watch_page(url, sink, results, lambda got: {values["frame"] for values, _ in got} == {40, 120, 200})
    for values, picture in messages:
        (shown,) = [one for one in results if one.frame.index == values["frame"]]
        expected = json.loads(json.dumps(json_record(shown)))
        assert {key: values[key] for key in expected} == expected
        assert np.abs(picture.astype(int) - shown.annotated).mean() < 5


def test_a_large_picture_is_sent_smaller_in_its_own_shape(capsys):
    with page(capsys) as (sink, url):
        ((_, picture), *_) = watch_page(url, sink, [numbered_result(7, size=(2160, 3840))], bool)
    assert picture.shape == (720, 1280, 3)


def test_nothing_is_drawn_while_nobody_watches_and_each_frame_once_for_several(capsys):
    drawn = []

    def picture(shown):
        drawn.append(shown.frame.index)
        return shown.annotated

    with page(capsys, render=picture) as (sink, url):
        for index in range(20):
            sink(numbered_result(index))
        assert fetch(f"{url}healthz").status == 200
        assert drawn == []
        results = iter([numbered_result(index) for index in range(100, 10_000)])

        async def several():
            async with aiohttp.ClientSession() as session:
                replies = [await session.get(f"{url}stream") for _ in range(5)]
                for _ in range(10):
                    sink(next(results))
                    await asyncio.gather(*(read_message(reply.content) for reply in replies))
                for reply in replies:
                    reply.close()

        asyncio.run(asyncio.wait_for(several(), 60))
    assert len(drawn) == len(set(drawn)) > 5


def test_a_late_viewer_gets_the_latest_frame(capsys):
    with page(capsys) as (sink, url):
        watch_page(url, sink, [numbered_result(1)], bool)
        sink(numbered_result(2))
        assert until(lambda: samples(fetch(f"{url}metrics").text)["iern_viewers", ""] == 0)
        sink(numbered_result(3))
        ((values, _), *_) = watch_page(url, lambda _: None, [numbered_result(9)], bool)  # the test sends no new frame
    assert values["frame"] == 3


def test_the_caller_chooses_the_function_that_makes_the_picture(capsys):
    with page(capsys, render=lambda shown: np.full((90, 90, 3), 255, np.uint8)) as (sink, url):
        ((_, picture), *_) = watch_page(url, sink, [numbered_result(3)], bool)
    assert picture.shape == (90, 90, 3)
    assert picture.min() > 250


def test_a_frame_that_cannot_be_shown_is_reported_and_the_next_one_is_shown(capsys):
    def picture(shown):
        if shown.frame.index == 1:
            raise RuntimeError("no such colour")
        return shown.annotated

    with page(capsys, render=picture) as (sink, url):
        got = watch_page(
            url,
            sink,
            [numbered_result(1), numbered_result(2)],
            lambda got: {"problem" in values for values, _ in got} == {True, False},
        )
    for values, shown in got:
        assert (shown is None) == ("no such colour" in values.get("problem", ""))


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def statuses(url: str, clock: Clock, waits: Sequence[float]) -> list[int]:
    """The status of /healthz after each number of seconds since the last frame."""
    last, found = clock.now, []
    for seconds in waits:
        clock.now = last + seconds
        found.append(fetch(f"{url}healthz").status)
    clock.now = last
    return found


@pytest.mark.parametrize(("interval", "allowed"), [(1 / 30, 2), (0.5, 2), (1, 3), (5, 15)])
def test_healthz_fails_two_seconds_after_the_last_frame_or_three_usual_intervals_of_a_slow_source(
    capsys, interval, allowed
):
    clock = Clock()
    with page(capsys, clock=clock) as (sink, url):
        for index in range(8):
            sink(numbered_result(index))
            if index:  # it never flickers between two frames, the later of which may be late
                assert statuses(url, clock, [1.9 * interval]) == [200]
            clock.now += interval
        clock.now -= interval
        assert statuses(url, clock, [0, 0.99 * allowed, 1.01 * allowed, 1000]) == [200, 200, 503, 503]
        clock.now += 60  # the source was away
        sink(numbered_result(9))
        assert statuses(url, clock, [0.99 * allowed, 1.01 * allowed]) == [200, 503], "one pause changes nothing"
        clock.now += 1.01 * allowed
        assert f"no frame for {1.01 * allowed:.0f} s" in fetch(f"{url}healthz").text


def test_healthz_fails_before_the_first_frame_and_waits_longer_for_the_second(capsys):
    clock = Clock()
    with page(capsys, clock=clock) as (sink, url):
        before = fetch(f"{url}healthz")
        assert (before.status, before.text) == (503, "no frame yet\n")
        sink(numbered_result(0))
        assert statuses(url, clock, [0, 9, 11]) == [200, 200, 503]


def test_prometheus_reads_frames_drops_expressions_and_latencies(capsys):
    with page(capsys) as (sink, url):
        for index, dropped in enumerate((0, 3, 10, 2)):  # the last from another source, which counts from 0
            sink(numbered_result(index, faces=2, dropped=dropped))
        reply = fetch(f"{url}metrics")
    assert reply.headers["Content-Type"].startswith("text/plain")
    found = samples(reply.text)
    assert found["iern_frames_total", ""] == 4
    assert found["iern_dropped_frames_total", ""] == 12
    assert found["iern_latency_seconds_count", "age"] == 4
    assert found["iern_latency_seconds_sum", "total"] == pytest.approx(4 * 0.010)
    assert found["iern_faces_total", "neutral"] == 8
    assert found["iern_stratum_disagreement_count", ""] == 8
    assert found["iern_viewers", ""] == 0


def test_prometheus_observes_no_disagreement_of_a_model_with_one_stratum(capsys):
    result = numbered_result(0, faces=2)
    faces = [dataclasses.replace(face, disagreement=None) for face in result.faces]
    with page(capsys) as (sink, url):
        sink(dataclasses.replace(result, faces=faces))
        found = samples(fetch(f"{url}metrics").text)
    assert found["iern_faces_total", "neutral"] == 2
    assert found["iern_stratum_disagreement_count", ""] == 0


def test_the_buttons_reach_the_loop_and_its_errors_reach_the_page(capsys):
    controls = FakeControls()
    with page(capsys, controls=controls) as (_, url):
        assert fetch(f"{url}recording", "POST", json={"on": True}).status == 204
        assert controls.recording
        assert fetch(f"{url}recording", "POST", json={"on": False}).status == 204
        assert not controls.recording
        controls.full = True
        refusal = fetch(f"{url}recording", "POST", json={"on": True})
        assert (refusal.status, refusal.text) == (409, "out.mkv: the disk is full; make room\n")
        assert fetch(f"{url}source", "POST", json={"name": "hall"}).status == 204
        assert json.loads(fetch(f"{url}state").text)["controls"] == {
            "recording": False,
            "sources": ["camera 0", "hall"],
            "source": "hall",
            "files": [],
            "blur": False,
            "blur_fixed": False,
            "overlay": True,
            "half_life": 0.1,
        }


def test_only_a_source_that_the_operator_allowed_reaches_the_loop(capsys):
    controls = FakeControls()
    with page(capsys, controls=controls) as (_, url):
        for name in ("/etc/passwd", "rtsp://elsewhere/", "", "HALL"):
            assert fetch(f"{url}source", "POST", json={"name": name}).status == 404
        for body in ({}, {"name": 3}, ["name"], "hall"):
            assert fetch(f"{url}source", "POST", json=body).status == 400
    assert controls.source == "camera 0"


def test_without_controls_the_page_only_shows(capsys):
    with page(capsys) as (_, url):
        assert json.loads(fetch(f"{url}state").text)["controls"] is None
        for address in ("recording", "source", "blur", "overlay", "half_life", "photo"):
            assert fetch(f"{url}{address}", "POST", json={"on": True}).status == 404
        assert fetch(f"{url}files/0").status == 404


def test_all_addresses_of_the_page_are_relative():
    text = "".join(path.read_text(encoding="utf-8") for path in PAGE.iterdir())
    addresses = re.findall(
        r"""(?:href|src)="([^"]*)"|(?:fetch|post)\("([^"]*)"|from "([^"]*)"|url\(([^)]*)\)|href: `([^`]*)`""", text
    )
    found = {"".join(groups) for groups in addresses}
    controls = {"recording", "source", "blur", "overlay", "half_life", "photo"}
    assert found >= {"page.css", "page.js", "./chart.js", "stream", "state", "files/${number}"} | controls
    assert not {name for name in found if name.startswith(("/", "http", "//"))}
    assert not re.findall(r"https?://", text), "nothing comes from elsewhere"


def test_every_file_of_the_page_is_sent_with_its_type(capsys):
    types = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
    with page(capsys) as (_, url):
        for path in PAGE.iterdir():
            reply = fetch(url if path.name == "page.html" else f"{url}{path.name}")
            assert (reply.status, reply.text) == (200, path.read_text(encoding="utf-8"))
            assert reply.headers["Content-Type"] == f"{types[path.suffix]}; charset=utf-8"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "two..dots", "192.0.2.1"])
def test_a_host_that_cannot_be_used_is_reported(host):
    with pytest.raises(OutputError, match=f"of {host} .*--serve"), page_server(Address(host, 0)):
        pass


def test_a_port_that_is_in_use_is_reported():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(OutputError, match=f"port {port} of 127.0.0.1.*--serve"),
            page_server(Address("127.0.0.1", port)),
        ):
            pass


@pytest.mark.parametrize("library", ["aiohttp", "prometheus_client"])
def test_a_missing_library_is_reported_with_the_command_that_installs_it(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(IernError, match=re.escape("pip install 'iern[serve]'")), page_server(Address("127.0.0.1", 0)):
        pass
