"""The soak benchmark notices every broken limit, and its camera fails in every way."""

from __future__ import annotations

import copy
import json
import sys
import time

import cv2
import pytest

from benchmarks.soak import __main__ as soak
from benchmarks.soak import camera as soak_camera
from benchmarks.soak import report as soak_report
from doubles.tiny_artifact import tiny_model


def healthy(minutes: float = 60) -> dict:
    """The results of a run without fault: one sample and 20 frames a second."""
    end = 60 * minutes
    samples = [{"seconds": s, "memory": 200 + s % 3 / 10, "threads": 9, "handles": 12} for s in range(int(end))]
    frames = [{"seconds": s / 20, "total": 20 + s % 7, "age": 40, "faces": s % 5} for s in range(int(20 * end))]
    return {
        "minutes": minutes,
        "seconds_a_round": 60,
        "recorded_megabytes": 5,
        "ending": {"early": False, "status": 0, "said": ["done"]},
        "machine": {"cores": 2, "system": "Linux", "python": "3.11"},
        "measured": "2026-11-25",
        **soak_report.figures(samples, frames),
    }


def test_a_healthy_run_breaks_no_limit():
    results = {**healthy(), "broken": []}
    assert soak_report.broken_limits(results) == []
    page = soak_report.markdown(results)
    assert "No limit is broken" in page
    assert "| threads (fewest) | 9 | 9 |" in page
    assert "too short" not in page


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("last", "memory_mb"), 202.5, "memory grew by 1.2%"),
        (("last", "threads"), 10, "threads grew from 9 to 10"),
        (("last", "handles"), 13, "handles grew from 12 to 13"),
        (("last", "latency_ms", "p99"), 40, "p99 grew to 1.54 times"),
        (("last", "age_ms", "p99"), 1500, "frames grew 1500 ms old"),
        (("last", "frames"), 0, "0 in the last"),
        (("longest_gap_seconds",), 100, "no frame was analysed for 100 s"),
        (("recorded_megabytes",), 0, "no recording"),
        (("ending", "status"), None, "status None after SIGTERM"),
        (("ending", "early"), True, "too early"),
    ],
)
def test_each_limit_is_noticed_alone(path, value, words):
    results = copy.deepcopy(healthy())
    inner = results
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (broken,) = soak_report.broken_limits(results)
    assert words in broken


def test_memory_that_climbs_slowly_is_noticed_and_peaks_are_not():
    samples = [{"seconds": s, "memory": 200.0, "threads": 9, "handles": 12} for s in range(3600)]
    peaks = [
        {**sample, "memory": 260, "threads": 30, "handles": 40} if i % 10 == 0 else sample
        for i, sample in enumerate(samples)
    ]
    climbing = [{**sample, "memory": 200 + sample["seconds"] / 1000} for sample in samples]
    frames = [{"seconds": s, "total": 20, "age": 40, "faces": 1} for s in range(3600)]
    steady, slow = (
        soak_report.broken_limits({**healthy(), **soak_report.figures(found, frames)}) for found in (peaks, climbing)
    )
    assert steady == []
    assert [limit.partition(" by ")[0] for limit in slow] == ["memory grew"]


def test_memory_is_not_checked_in_a_short_run():
    results = healthy(minutes=2)
    results["last"]["memory_mb"] *= 2
    assert soak_report.broken_limits(results) == []
    assert "too short" in soak_report.markdown({**results, "broken": []})


def test_a_run_that_ended_before_it_began_has_a_page_too():
    results = {**healthy(), **soak_report.figures([], [])}
    results["ending"] = {"early": True, "status": 1, "said": ["error: no model"]}
    results["broken"] = soak_report.broken_limits(results)
    assert "error: no model" in results["broken"][0]
    assert "| none | none |" in soak_report.markdown(results)


def test_the_camera_fails_in_every_way_and_comes_back():
    seen = set()
    camera = soak_camera.FailingCamera(seconds=2)
    deadline = time.monotonic() + 60
    while len(seen) < 3 + len(soak_camera.ROUND) and time.monotonic() < deadline:
        what, size = camera.now()
        seen |= {what, size}
        time.sleep(0.01)
    assert seen == {what for what, _ in soak_camera.ROUND} | set(soak_camera.SIZES)
    assert sum(share for _, share in soak_camera.ROUND) == pytest.approx(1)


def test_a_real_client_gets_the_cameras_pictures():
    with soak.camera(600) as url:
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
        delivered, image = capture.read()
        capture.release()
    assert delivered
    assert image.shape[1::-1] == soak_camera.SIZES[0]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's entries in Linux's /proc")
def test_the_command_watches_a_real_loop_to_its_end_and_writes_its_page(tmp_path):
    """What it measures is not asserted: a minute is too short, and the machine may be busy."""
    (tmp_path / "tiny.onnx").write_bytes(tiny_model())
    arguments = ["--minutes", "0.9", "--round", "40", "--json", str(tmp_path / "soak.json")]
    assert soak.main([*arguments, "--", "--model", str(tmp_path / "tiny.onnx")]) in (0, 1)
    results = json.loads((tmp_path / "soak.json").read_text(encoding="utf-8"))
    assert (results["ending"]["early"], results["ending"]["status"]) == (False, 0), results["ending"]["said"]
    assert results["frames"] > 20
    assert results["recorded_megabytes"] > 0
    assert (
        min(len(results["samples"]), *(results["samples"][-1][what] for what in ("memory", "threads", "handles"))) > 3
    )
    for tenth in (results["first"], results["last"]):
        assert {"memory_mb", "threads", "handles", "latency_ms", "age_ms"} <= set(tenth)
    page = (tmp_path / "soak.md").read_text(encoding="utf-8")
    assert page == soak_report.markdown(results)
    assert "too short to check memory and drift" in page
