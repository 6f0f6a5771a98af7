"""The service benchmark notices every goal that is missed, and its clients count what a server really does."""

from __future__ import annotations

import copy
import itertools
import json
from collections import Counter

import pytest

pytest.importorskip("aiohttp", reason="pip install 'iern[serve]'")

from aiohttp import web

from benchmarks.service import __main__ as benchmark
from benchmarks.service import report
from benchmarks.service.load import Load, batch_means, load
from doubles.servers.page_client import running


def healthy() -> dict:
    """The results of a run that misses no goal."""
    loads = [Load(4, 5.0, 100, Counter({200: 100}), [10.0, 20.0, 30.0])]
    full = Load(16, 5.0, 90, Counter({200: 50, 503: 40}))
    return {
        "machine": {"processor": "a processor", "cores": 2, "load": 0.1, "python": "3.11"},
        "measured": "2026-11-29",
        "rounds": 1,
        "seconds": 5.0,
        "pictures": 16,
        "size": "640x480",
        "library_rate": 22.0,
        "clients": [report.figures(loads, [0.9, 0.95, 2.0], 2.5)],
        "full": {"clients": 16, "waiting": 4, **report.counts([full])},
        "status": 0,
        "missed": [],
    }


def test_a_healthy_run_misses_no_goal_and_its_page_has_the_figures():
    assert report.missed_goals(healthy()) == []
    page = report.markdown(healthy())
    assert "| 4 | 20.0 | 0.95 | 20, 30 | 2.5 | 100 |" in page
    assert "50 with 200, 40 with 503, of 90 requests" in page
    assert "No goal is missed" in page


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("clients", 0, "ratio"), 0.79, "0.79 times the library's rate"),
        (("clients", 0, "statuses"), {"200": 99, "500": 1}, "expected 200 only"),
        (("clients", 0, "lost"), 1, "4 clients: 1 requests without an answer"),
        (("clients", 0, "wrong"), 2, "2 answers of other faces"),
        (("full", "statuses"), {"200": 90}, "no request was refused"),
        (("full", "statuses"), {"200": 1, "503": 1, "500": 1}, "expected 200 and 503 only"),
        (("full", "without_retry"), 3, "3 refusals without Retry-After"),
        (("full", "lost"), 1, "the full queue: 1 requests"),
        (("status",), None, "status None after SIGTERM"),
    ],
)
def test_each_goal_is_noticed_alone(path, value, words):
    results = copy.deepcopy(healthy())
    inner = results
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (missed,) = report.missed_goals(results)
    assert words in missed


def test_the_clients_count_refusals_wrong_faces_and_lost_requests():
    """The server answers in turns: right, another expression, 503 with and without Retry-After, and not at all."""
    turns = itertools.cycle(range(5))
    served = Counter()

    async def answer(request: web.Request) -> web.StreamResponse:
        turn = next(turns)
        served[turn] += 1
        await request.read()
        if turn == 4:
            request.transport.abort()
        if turn in (2, 3):
            return web.json_response({"error": "full"}, status=503, headers={"Retry-After": "1"} if turn == 2 else {})
        return web.json_response({"faces": [{"expression": "fear" if turn == 1 else "happiness"}]})

    app = web.Application()
    app.router.add_post("/v1/faces", answer)
    with running(app) as url:
        got = load(url, [b"picture"], [["happiness"]], clients=3, seconds=1)
    assert got.sent == served.total()
    assert got.statuses == {200: served[0] + served[1], 503: served[2] + served[3]}
    assert (got.wrong, got.without_retry, got.lost) == (served[1], served[3], served[4])
    assert min(served.values()) > 0
    assert len(got.latencies) == got.statuses[200]


def test_the_mean_batch_is_read_from_two_readings_of_the_metrics():
    before = "# HELP x\niern_batch_pictures_count 2.0\niern_batch_pictures_sum 2.0\n"
    after = "iern_batch_pictures_count 6.0\niern_batch_pictures_sum 14.0\n"
    assert batch_means(before, after) == 3
    assert batch_means(before, before) != batch_means(before, before), "NaN without a batch"


@pytest.mark.slow
def test_the_command_measures_a_real_service_and_writes_its_page(tmp_path):
    """The rate is not asserted, because the machine may be busy. That nothing is lost or wrong is."""
    assert benchmark.main(["--rounds", "1", "--seconds", "0.5", "--json", str(tmp_path / "service.json")]) in (0, 1)
    results = json.loads((tmp_path / "service.json").read_text(encoding="utf-8"))
    assert [goal for goal in results["missed"] if "library's rate" not in goal] == []
    assert [row["clients"] for row in results["clients"]] == list(benchmark.CLIENTS)
    assert (tmp_path / "service.md").read_text(encoding="utf-8") == report.markdown(results)
