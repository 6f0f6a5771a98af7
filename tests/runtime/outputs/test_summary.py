"""The summary page: Python's own parser finds whole HTML, true to the session, without links to other files."""

from __future__ import annotations

import dataclasses
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from doubles.made_up_results import grey_result
from iern.runtime.faces.face import Face
from iern.runtime.imaging.detection import Detection
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.session_stats import MOST_STEPS, MOST_TRACKS, SessionStats
from iern.runtime.outputs.summary import session_summary, summary_html
from iern.runtime.power.energy import Energy

VOID = {"meta", "br", "img", "link", "input"}


@dataclasses.dataclass(frozen=True)
class Tracked(Face):
    track: int | None = None


class Page(HTMLParser):
    """Tags, attributes and words; fails if a tag is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag == self.open.pop()

    def handle_data(self, data):
        self.words.append(data)


def tracked_result(
    seconds: float, *faces: tuple[int | None, str], milliseconds: float = 10, name: str = "clip.mp4"
) -> FrameResult:
    """A result whose faces have a track and an expression, or `uncertain`."""
    base = grey_result(1, seconds)
    box = Detection(0, 0, 1, 1, np.zeros((5, 2)), 1)
    found = [
        Tracked(
            box,
            {n: 0.8 if n == expression else 0.1 for n in ("happy", "sad", "calm")},
            0.1,
            expression == "uncertain",
            track,
        )
        for track, expression in faces
    ]
    latency = dataclasses.replace(base.latency, infer=milliseconds, detect=0, preprocess=0)
    return dataclasses.replace(
        base, faces=found, latency=latency, frame=dataclasses.replace(base.frame, name=name), dropped=5
    )


def session() -> list[FrameResult]:
    """Four seconds at 10 a second: face 1 happy for two, then uncertain; face 2 sad in the last one."""
    results = []
    for index in range(41):
        faces = [(1, "happy" if index <= 20 else "uncertain")] + ([(2, "sad")] if index > 30 else [])
        results.append(tracked_result(index / 10, *faces, milliseconds=100 if index == 40 else 10))
    return results


def test_the_page_has_the_figures_of_the_session(tmp_path):
    path = tmp_path / "out.html"
    with session_summary(path) as add:
        for result in session():
            add(result)
    read = Page(path.read_text(encoding="utf-8"))
    assert read.open == []
    words = "|".join(read.words)
    for entry in ("lasted|4.0 s", "frames|41 (10.0 a second)", "frames dropped|5", "faces in all frames|51"):
        assert entry in words
    assert "happy|2.0 s" in words
    assert "uncertain|2.0 s" in words
    assert "sad|1.0 s" in words
    assert {"face 1", "face 2", "whole session"} <= set(read.words)
    shares = [word for word in read.words if word.startswith("3.5 s: ")]
    assert sorted(shares) == ["3.5 s: sad 50 %", "3.5 s: uncertain 50 %"]
    counts = [int(m[1]) for word in read.words if (m := re.fullmatch(r"[\d.]+ to [\d.]+ ms: (\d+)", word))]
    assert sum(counts) == 41
    assert (counts[0], counts[-1]) == (40, 1)


def test_the_page_has_no_script_and_no_link_to_another_file_or_site():
    stats = SessionStats()
    for result in session():
        stats.add(result)
    text = summary_html(stats)
    assert not {"src", "href", "srcset", "data", "action", "xlink:href"} & {n for _, a in Page(text).tags for n in a}
    assert not {"script", "link", "iframe", "object", "embed", "img"} & {tag for tag, _ in Page(text).tags}
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
    assert "default-src 'none'" in text


def test_names_cannot_break_out_of_the_page():
    stats = SessionStats()
    stats.add(tracked_result(0, (None, "happy"), name="<script>alert(1)</script>&.mp4"))
    stats.add(tracked_result(1, (None, "happy")))
    read = Page(summary_html(stats))
    assert "script" not in {tag for tag, _ in read.tags}
    assert "<script>alert(1)</script>&.mp4" in "".join(read.words)


@pytest.mark.parametrize("faces", [(), ((None, "happy"),)])
def test_a_session_of_one_frame_has_a_page_too(faces):
    stats = SessionStats()
    stats.add(tracked_result(0, *faces))
    assert Page(summary_html(stats)).open == []


def test_the_memory_does_not_grow_with_the_session():
    stats = SessionStats()
    for index in range(20_000):
        stats.add(tracked_result(float(index), (index // 10, "happy"), milliseconds=1 + index % 1000))
    assert len(stats.timeline) <= MOST_STEPS
    assert len(stats.tracks) == MOST_TRACKS + 1
    assert len(stats.latencies) < 30
    assert sum(stats.seconds.values()) == pytest.approx(19_999)
    assert sum(sum(seconds.values()) for seconds in stats.timeline.values()) == pytest.approx(19_999)
    assert sum(sum(seconds.values()) for seconds in stats.tracks.values()) == pytest.approx(19_999)


def test_the_time_of_a_loss_counts_for_no_expression():
    stats = SessionStats()
    for seconds in (0.0, 0.5, 3600.0, 3599.0):
        stats.add(tracked_result(seconds, (1, "sad")))
    assert stats.seconds["sad"] == pytest.approx(1.5)


def test_an_error_in_the_loop_leaves_the_page_of_the_frames_before(tmp_path):
    with pytest.raises(RuntimeError), session_summary(tmp_path / "out.html") as add:
        add(tracked_result(0, (1, "sad")))
        raise RuntimeError
    assert os.listdir(tmp_path) == ["out.html"]


def test_without_frames_there_is_no_page(tmp_path):
    with session_summary(tmp_path / "out.html"):
        pass
    assert os.listdir(tmp_path) == []


def test_the_energy_of_a_run_is_on_the_page_with_its_sensors_escaped():
    stats = SessionStats()
    stats.add(tracked_result(0, (1, "happy")))
    energies = [Energy("GPU <0>", joules=6.0, seconds=3.0, frames=4, faces=8), Energy("rail VDD_IN", problem="gone")]
    words = " ".join(Page(summary_html(stats, energies=energies)).words)
    assert "GPU <0> 1.5 J a frame, 0.75 J a face, 2 W" in words
    assert "rail VDD_IN gone" in words
    assert "Energy" not in " ".join(Page(summary_html(stats)).words)
