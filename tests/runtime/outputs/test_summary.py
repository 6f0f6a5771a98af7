"""The summary page: whole HTML by Python's own parser, true to the session, and in need of nothing outside."""

from __future__ import annotations

import dataclasses
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from doubles.made_up_results import view
from iern.runtime.faces.face import Face
from iern.runtime.imaging.detection import Detection
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.session_stats import STEPS, TRACKS, SessionStats
from iern.runtime.outputs.summary import page, summary

VOID = {"meta", "br", "img", "link", "input"}


@dataclasses.dataclass(frozen=True)
class Tracked(Face):
    track: int | None = None


class Page(HTMLParser):
    """Tags, attributes and words; fails where a tag is closed that is not open."""

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


def seen(
    seconds: float, *faces: tuple[int | None, str], milliseconds: float = 10, name: str = "clip.mp4"
) -> FrameResult:
    """A view whose faces have a track and an expression, or `uncertain`."""
    base = view(1, seconds)
    box = Detection(0, 0, 1, 1, np.zeros((5, 2)), 1)
    found = [
        Tracked(box, {n: 0.8 if n == what else 0.1 for n in ("happy", "sad", "calm")}, 0.1, what == "uncertain", track)
        for track, what in faces
    ]
    latency = dataclasses.replace(base.latency, infer=milliseconds, detect=0, preprocess=0)
    return dataclasses.replace(
        base, faces=found, latency=latency, frame=dataclasses.replace(base.frame, name=name), dropped=5
    )


def session() -> list[FrameResult]:
    """Four seconds at 10 a second: face 1 happy for two, then uncertain; face 2 sad in the last one."""
    views = []
    for index in range(41):
        faces = [(1, "happy" if index <= 20 else "uncertain")] + ([(2, "sad")] if index > 30 else [])
        views.append(seen(index / 10, *faces, milliseconds=100 if index == 40 else 10))
    return views


def test_the_page_tells_the_session(tmp_path):
    path = tmp_path / "out.html"
    with summary(path) as add:
        for each in session():
            add(each)
    read = Page(path.read_text(encoding="utf-8"))
    assert read.open == []
    words = "|".join(read.words)
    for told in ("lasted|4.0 s", "frames|41 (10.0 a second)", "frames dropped|5", "faces in all frames|51"):
        assert told in words
    assert "happy|2.0 s" in words
    assert "uncertain|2.0 s" in words
    assert "sad|1.0 s" in words
    assert {"face 1", "face 2", "whole session"} <= set(read.words)
    shares = [word for word in read.words if word.startswith("3.5 s: ")]
    assert sorted(shares) == ["3.5 s: sad 50 %", "3.5 s: uncertain 50 %"]
    counts = [int(m[1]) for word in read.words if (m := re.fullmatch(r"[\d.]+ to [\d.]+ ms: (\d+)", word))]
    assert sum(counts) == 41
    assert (counts[0], counts[-1]) == (40, 1)


def test_the_page_has_no_script_and_no_address_of_anything_outside():
    digest = SessionStats()
    for each in session():
        digest.add(each)
    text = page(digest)
    assert not {"src", "href", "srcset", "data", "action", "xlink:href"} & {n for _, a in Page(text).tags for n in a}
    assert not {"script", "link", "iframe", "object", "embed", "img"} & {tag for tag, _ in Page(text).tags}
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
    assert "default-src 'none'" in text


def test_names_cannot_break_out_of_the_page():
    digest = SessionStats()
    digest.add(seen(0, (None, "happy"), name="<script>alert(1)</script>&.mp4"))
    digest.add(seen(1, (None, "happy")))
    read = Page(page(digest))
    assert "script" not in {tag for tag, _ in read.tags}
    assert "<script>alert(1)</script>&.mp4" in "".join(read.words)


@pytest.mark.parametrize("faces", [(), ((None, "happy"),)])
def test_a_session_of_one_frame_has_a_page_too(faces):
    digest = SessionStats()
    digest.add(seen(0, *faces))
    assert Page(page(digest)).open == []


def test_what_is_kept_does_not_grow_with_the_session():
    digest = SessionStats()
    for index in range(20_000):
        digest.add(seen(float(index), (index // 10, "happy"), milliseconds=1 + index % 1000))
    assert len(digest.timeline) <= STEPS
    assert len(digest.tracks) == TRACKS + 1
    assert len(digest.latencies) < 30
    assert sum(digest.seconds.values()) == pytest.approx(19_999)
    assert sum(sum(each.values()) for each in digest.timeline.values()) == pytest.approx(19_999)
    assert sum(sum(each.values()) for each in digest.tracks.values()) == pytest.approx(19_999)


def test_the_time_of_a_loss_is_nobodys():
    digest = SessionStats()
    for seconds in (0.0, 0.5, 3600.0, 3599.0):
        digest.add(seen(seconds, (1, "sad")))
    assert digest.seconds["sad"] == pytest.approx(1.5)


def test_an_error_in_the_loop_leaves_the_page_of_what_was(tmp_path):
    with pytest.raises(RuntimeError), summary(tmp_path / "out.html") as add:
        add(seen(0, (1, "sad")))
        raise RuntimeError
    assert os.listdir(tmp_path) == ["out.html"]


def test_without_frames_there_is_no_page(tmp_path):
    with summary(tmp_path / "out.html"):
        pass
    assert os.listdir(tmp_path) == []
