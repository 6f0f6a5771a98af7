"""The parts of the loop together, in the real command: page, switching sources, smoothing, blur, failing outputs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="pip install 'iern[serve]'")
pytest.importorskip("prometheus_client", reason="pip install 'iern[serve]'")

import aiohttp

from doubles.made_up_results import played
from doubles.servers.mjpeg_server import mjpeg_server
from doubles.servers.page_client import fetch, read_message, thirty_viewers, until, viewers
from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.detection import Detection
from iern.runtime.webcam import main


@pytest.fixture(scope="module")
def clip() -> list[np.ndarray]:
    """Frames of the demo clip with a face in each."""
    capture, images = cv2.VideoCapture(str(DEMO_CLIP)), []
    while len(images) < 100 and (read := capture.read())[0]:
        images.append(cv2.resize(read[1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    capture.release()
    detector = FaceDetector()
    return [image for image in images[::5] if detector(image)]


@pytest.fixture
def camera(clip) -> Iterator[str]:
    """A camera that repeats the clip. Its URL has a password."""
    with mjpeg_server(clip, pause=0.05, then="repeat") as address:
        yield f"http://user:secret@{address}/cam"


class Loop(NamedTuple):
    process: subprocess.Popen[str]
    url: str

    def state(self) -> dict:
        return json.loads(fetch(f"{self.url}state").text)

    def post(self, address: str, **value: object):
        return fetch(self.url + address, "POST", json=value)


@contextlib.contextmanager
def serving_loop(folder: Path, arguments: Sequence[str]) -> Iterator[Loop]:
    """The command with a page, in `folder`, after its first frames. At the end SIGTERM stops it with status 0."""
    command = [sys.executable, "-m", "iern.runtime.webcam", "--headless", "--serve", "0", *arguments]
    with open(folder / "output", "w+", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, encoding="utf-8")
        try:
            assert until(lambda: "the page is at " in output_in(folder)), output_in(folder)
            url = output_in(folder).partition("the page is at ")[2].split()[0]
            assert until(lambda: fetch(f"{url}healthz").status == 200)
            yield Loop(process, url)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0, output_in(folder)
        finally:
            process.kill()
            process.wait()
    assert "secret" not in output_in(folder)


def output_in(folder: Path) -> str:
    """What the loop has printed so far."""
    return (folder / "output").read_text(encoding="utf-8")


def picture(url: str) -> np.ndarray:
    """The picture that the page shows now."""

    async def read() -> np.ndarray | None:
        async with aiohttp.ClientSession() as session, session.get(f"{url}stream") as reply:
            return (await asyncio.wait_for(read_message(reply.content), 60))[1]

    shown = asyncio.run(read())
    assert shown is not None
    return shown


async def downloaded(url: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(url) as reply:
        return await reply.read()


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_recording_is_started_and_stopped_on_the_page_plays_and_is_downloaded(tmp_path, model, camera):
    arguments = ["--source", camera, "--model", model, "--jsonl", "log.jsonl"]
    with serving_loop(tmp_path, arguments) as loop:
        assert picture(loop.url).shape[2] == 3
        before = loop.state()["controls"]
        assert (before["recording"], before["sources"], before["source"]) == (False, [], "")
        assert [(file["name"], file["kind"]) for file in before["files"]] == [("log.jsonl", "records")]
        assert loop.post("recording", on=True).status == 204
        assert loop.state()["controls"]["recording"]
        (video,) = tmp_path.glob("iern_*.webm") if until(lambda: list(tmp_path.glob("iern_*.webm"))) else [None]
        assert until(lambda: len(played(video)) > 3), "it plays while it grows"
        assert loop.post("recording", on=False).status == 204
        assert not loop.state()["controls"]["recording"]
        whole = len(played(video))
        lines = fetch(f"{loop.url}files/0").text
        assert lines.endswith("}\n")
        assert (tmp_path / "log.jsonl").read_text(encoding="utf-8").startswith(lines)
        assert [file["name"] for file in loop.state()["controls"]["files"]] == ["log.jsonl", video.name]
        assert asyncio.run(downloaded(f"{loop.url}files/1")) == video.read_bytes()
    assert len(played(video)) == whole > 3
    assert f"wrote {video.name}" in output_in(tmp_path)
    assert records(tmp_path / "log.jsonl")[0]["faces"]


def test_the_page_reports_a_recording_that_cannot_begin_and_the_loop_continues(tmp_path, model, camera):
    """While the loop runs, the folder of the recordings is replaced by a file of its name."""
    arguments = ["--source", camera, "--model", model, "--record", "recordings/first.mp4"]
    with serving_loop(tmp_path, arguments) as loop:
        assert loop.state()["controls"]["recording"]
        assert loop.post("recording", on=False).status == 204
        assert len(played(tmp_path / "recordings" / "first.mp4")) > 0
        (tmp_path / "recordings").rename(tmp_path / "elsewhere")
        (tmp_path / "recordings").write_bytes(b"")
        refused = loop.post("recording", on=True)
        assert refused.status == 409
        assert "recordings" in refused.text
        assert fetch(f"{loop.url}healthz").status == 200
        assert not loop.state()["controls"]["recording"]
        loop.process.send_signal(signal.SIGTERM)
        assert loop.process.wait(timeout=60) == 1, "a requested output was not written"
        loop.process.returncode = 0  # checked here


def test_the_source_is_switched_on_the_page_and_time_continues(tmp_path, model, camera):
    grey = [np.full((120, 160, 3), level, np.uint8) for level in (90, 100, 110, 120)]
    with mjpeg_server(grey, pause=0.05, then="repeat") as address:
        other = f"http://user:secret@{address}/grey"
        allowed = ["--allow-source", other, "--allow-source", "nowhere.mp4", "--allow-source", str(DEMO_CLIP)]
        arguments = ["--source", camera, "--model", model, "--jsonl", "log.jsonl", *allowed]
        with serving_loop(tmp_path, arguments) as loop:
            first, second, absent, video = loop.state()["controls"]["sources"]
            assert (second, absent, video) == (f"http://{address}/grey", "nowhere.mp4", str(DEMO_CLIP))
            refused = loop.post("source", name=absent)
            assert (refused.status, loop.state()["controls"]["source"]) == (409, first)
            assert "nowhere.mp4: no such file" in refused.text
            assert loop.post("source", name="/etc/passwd").status == 404
            assert loop.post("source", name=second).status == 204
            assert loop.state()["controls"]["source"] == second
            assert until(lambda: picture(loop.url).shape[:2] == (120, 160))
            assert loop.post("source", name=video).status == 204
            assert until(lambda: records(tmp_path / "log.jsonl")[-1]["name"] == DEMO_CLIP.name)
            assert loop.post("source", name=first).status == 204
            assert until(lambda: records(tmp_path / "log.jsonl")[-1]["segment"] == 3)
    found = records(tmp_path / "log.jsonl")
    names = list(dict.fromkeys((record["segment"], record["name"]) for record in found))
    assert names == [(0, first), (1, second), (2, DEMO_CLIP.name), (3, first)]
    for key in ("time", "frame"):
        assert all(a[key] < b[key] for a, b in itertools.pairwise(found))
    tracks = [{face["track"] for r in found if r["segment"] == segment for face in r["faces"]} for segment in (0, 3)]
    assert tracks[0] and tracks[1] and not tracks[0] & tracks[1], "another source shows other people"


def test_the_loop_continues_after_the_end_of_a_video_that_was_selected_on_the_page(tmp_path, model, clip, camera):
    writer = cv2.VideoWriter(str(tmp_path / "video.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, clip[0].shape[1::-1])
    for image in clip[:5]:
        writer.write(image)
    writer.release()
    arguments = ["--source", camera, "--model", model, "--jsonl", "log.jsonl", "--allow-source", "video.avi"]
    with serving_loop(tmp_path, arguments) as loop:
        first, video = loop.state()["controls"]["sources"]
        assert loop.post("source", name=video).status == 204
        assert until(lambda: records(tmp_path / "log.jsonl")[-1]["segment"] == 2)
        assert loop.state()["controls"]["source"] == first
    assert f"video.avi: has ended; back to {first}" in output_in(tmp_path)
    names = dict.fromkeys((record["segment"], record["name"]) for record in records(tmp_path / "log.jsonl"))
    assert list(names) == [(0, first), (1, "video.avi"), (2, first)]


def test_the_page_smooths_the_loop_blurs_its_picture_and_reads_a_photo(tmp_path, model, clip, camera):
    face = np.vstack([clip[0], clip[0]])
    with serving_loop(tmp_path, ["--source", camera, "--model", model, "--half-life", "0.25"]) as loop:
        assert loop.state()["controls"]["half_life"] == 0.25
        assert loop.post("half_life", seconds=1.5).status == 204
        assert loop.post("blur", on=True).status == 204
        assert loop.post("overlay", on=False).status == 204
        controls = loop.state()["controls"]
        assert (controls["half_life"], controls["blur"], controls["overlay"]) == (1.5, True, False)
        shown, detector = picture(loop.url), FaceDetector()
        original = nearest(shown, clip)
        assert detector(original)
        assert not [found for found in detector(shown) if any(alike(found, one) for one in detector(original))]
        data = cv2.imencode(".png", face)[1].tobytes()
        reply = fetch(f"{loop.url}photo", "POST", data=data, headers={"Content-Type": "image/png"})
        answer = json.loads(reply.text)
        assert (answer["height"], answer["width"]) == face.shape[:2]
        assert len(answer["faces"]) == 2 * len(detector.in_photograph(clip[0]))


def alike(a: Detection, b: Detection) -> bool:
    """Whether two boxes have about the same place and size."""
    centres = abs(a.x + a.width / 2 - b.x - b.width / 2), abs(a.y + a.height / 2 - b.y - b.height / 2)
    return max(centres) < 0.5 * b.width and 0.5 < a.width / b.width < 2


@pytest.mark.parametrize("more", [[], ["--blur-faces"]])
def test_blur_faces_blurs_them_on_the_page_and_in_files(tmp_path, model, clip, camera, more):
    outputs = ["--record", "out.mp4", "--still", "out.png"]
    with serving_loop(tmp_path, ["--source", camera, "--model", model, *outputs, *more]) as loop:
        shown = picture(loop.url)
        assert until(lambda: len(played(tmp_path / "out.mp4")) > 3)
    detector, pictures = FaceDetector(), [shown, cv2.imread(str(tmp_path / "out.png")), *played(tmp_path / "out.mp4")]
    # The detector may take a blurred head with its shoulders for a large face, which does not count.
    faces = [
        [face for face in detector(each) if any(alike(face, one) for one in detector(nearest(each, clip)))]
        for each in pictures
    ]
    assert {bool(found) for found in faces} == {not more}


def nearest(picture: np.ndarray, clip: Sequence[np.ndarray]) -> np.ndarray:
    """The frame of the clip of which the picture was made."""
    return min(clip, key=lambda image: np.abs(image.astype(int) - picture).mean())


def held(process: int) -> tuple[int, int]:
    """The numbers of threads and descriptors of a process."""
    return len(os.listdir(f"/proc/{process}/task")), len(os.listdir(f"/proc/{process}/fd"))


def rate_since(lines: Path, byte: int) -> float:
    """Frames per second in the records after that byte, by their own times."""
    whole = lines.read_bytes()[byte:].rpartition(b"\n")[0]
    seconds = [json.loads(line)["time"] for line in whole.splitlines()]
    return (len(seconds) - 1) / (seconds[-1] - seconds[0])


def watched_by_thirty(url: str, seconds: float) -> None:
    """Watch for `seconds` with thirty viewers, most of them stuck or gone."""
    with thirty_viewers(url) as (_, read):
        assert min(read(seconds)) > 50_000, "the others saw the loop all the time"


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_thirty_viewers_most_stuck_or_gone_cost_the_loop_no_rate_threads_or_descriptors(tmp_path, model, clip):
    """The camera is slow enough for the loop, so only the viewers can make it lose frames.

    Periods with and without viewers alternate, so that other load on the machine affects both.
    """
    lines, alone, watched = tmp_path / "log.jsonl", [], []
    with mjpeg_server(clip, pause=1 / 15, then="repeat") as address:
        arguments = ["--source", f"http://{address}/cam", "--model", model, "--jsonl", lines.name]
        with serving_loop(tmp_path, arguments) as loop:
            picture(loop.url)  # what is allocated for the first viewer stays
            assert until(lambda: viewers(loop.url) == 0)
            before = held(loop.process.pid)
            for _ in range(4):
                start = lines.stat().st_size
                time.sleep(5)
                middle = lines.stat().st_size
                alone.append(rate_since(lines, start))
                watched_by_thirty(loop.url, 5)
                watched.append(rate_since(lines, middle))
                assert until(lambda: viewers(loop.url) == 0), "viewers that left are still counted"
            assert until(lambda: all(now <= then for now, then in zip(held(loop.process.pid), before, strict=True)))
    assert statistics.median(watched) >= 0.95 * statistics.median(alone), (alone, watched)


def test_the_half_life_reaches_the_smoothing(tmp_path, model):
    for seconds in ("0", "5"):
        arguments = ["--headless", "--source", str(DEMO_CLIP), "--model", model, "--max-frames", "20"]
        arguments += ["--half-life", seconds, "--jsonl", str(tmp_path / seconds)]
        assert main(arguments) == 0
    faces = {name: [face for r in records(tmp_path / name) for face in r["faces"]] for name in ("0", "5")}
    assert all(face["probabilities"] == face["raw_probabilities"] for face in faces["0"])
    assert any(face["probabilities"] != face["raw_probabilities"] for face in faces["5"])
    assert {face["track"] for face in faces["5"]} >= {1}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux' /dev/full")
@pytest.mark.parametrize("option", ["--record", "--jsonl", "--csv"])
def test_a_full_disk_ends_one_output_and_not_the_loop_but_the_status_is_1(tmp_path, capsys, model, option):
    full, lines = tmp_path / f"full{'.mp4' if option == '--record' else ''}", tmp_path / "out.jsonl"
    full.symlink_to("/dev/full")
    whole = ["--csv" if option == "--jsonl" else "--jsonl", str(lines)]
    arguments = ["--headless", "--source", str(DEMO_CLIP), "--model", model, "--max-frames", "8", option, str(full)]
    assert main([*arguments, *whole]) == 1
    printed, error = capsys.readouterr()
    assert len(lines.read_text(encoding="utf-8").splitlines()) >= 8
    reason = f"{full}: cannot be written (No space left on device); free some space or choose another place"
    assert f"warning: {reason}; the loop continues without it" in error
    assert error.splitlines()[-1] == f"error: {reason}"
    assert f"wrote {lines}" in printed
    assert f"wrote {full}" not in printed
