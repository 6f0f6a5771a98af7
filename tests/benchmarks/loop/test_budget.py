"""The loop does no more for a frame than its budget: multiply-adds, calls, searched pixels and copies, but no time.

Somebody who makes the loop cheaper lowers the budget; somebody who needs more raises it, and says why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.latency.macs import macs_of_graph
from benchmarks.loop.clips import FPS, demo_clip, made_clip
from benchmarks.loop.counts import Counts, counts_of
from iern.runtime.bundled import MODEL
from iern.runtime.faces.pipeline import FacePipeline
from iern.runtime.imaging import preprocess

MULTIPLY_ADDS = 384_000_000
"""Of the bundled model for one face, which it sees twice: as it is, and mirrored."""

PICTURES_A_FACE = 3
"""The window in which it is searched; the face, turned and cut out; the same at the size of the model's input."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """The most that a frame may cost, on average."""

    detector_runs: float
    searched: float
    """Pixels that the detector sees, over those of the copy of the whole frame that it searches."""
    pictures: float
    """Pictures that OpenCV makes for a frame, besides PICTURES_A_FACE: copies of the whole frame."""
    peak: float
    """Memory that is held in the median frame, over that of the frame."""


BUDGETS = {
    "demo": Budget(detector_runs=1.0, searched=0.25, pictures=2.0, peak=0.6),
    "8 faces": Budget(detector_runs=1.0, searched=0.95, pictures=2.0, peak=1.2),
}
SEARCHED_COPY = {"demo": 640 * 480, "8 faces": 640 * 360}


def clip_frames(name: str) -> Sequence[np.ndarray]:
    """A second of the clip, and the frame before it."""
    demo = demo_clip()
    return (demo if name == "demo" else made_clip(8, demo)).frames[: FPS + 1]


@pytest.fixture(scope="module", params=BUDGETS)
def counted(request) -> tuple[str, Counts, int]:
    frames = clip_frames(request.param)
    return request.param, counts_of(frames, FPS), frames[0].nbytes


def test_the_bundled_model_has_no_more_multiply_adds_than_its_budget():
    assert sum(macs_of_graph(MODEL.read_bytes()).values()) <= MULTIPLY_ADDS


def test_the_model_runs_once_a_frame_on_its_faces_and_nothing_else(counted):
    name, counts, _ = counted
    assert counts.frames == FPS
    shown = FPS * {"demo": 1, "8 faces": 8}[name]
    assert 0.97 * shown <= counts.faces <= shown
    assert counts.model_runs == counts.frames
    assert counts.model_faces == counts.faces


def test_the_detector_runs_no_more_often_and_sees_no_more_pixels_than_its_budget(counted):
    name, counts, _ = counted
    assert 0 < counts.detector_runs <= BUDGETS[name].detector_runs * counts.frames
    assert 0 < counts.detector_pixels <= BUDGETS[name].searched * SEARCHED_COPY[name] * counts.frames


def test_no_more_pictures_are_made_and_no_more_memory_is_held_than_the_budget(counted):
    name, counts, frame_bytes = counted
    allowed = PICTURES_A_FACE * counts.faces + BUDGETS[name].pictures * counts.frames
    assert 0 < counts.pictures <= allowed
    assert 0 < counts.peak_bytes <= BUDGETS[name].peak * frame_bytes


def twice(call: Callable[..., Any]) -> Callable[..., Any]:
    """A function that does everything two times."""
    return lambda *arguments: (call(*arguments), call(*arguments))[1]


def on_a_copy_of_the_frame(cut: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes a picture of the whole frame before it cuts a face out."""
    return lambda frame, *rest: cut(cv2.resize(frame, None, fx=1, fy=1), *rest)


WASTES = {
    "model_runs": (FacePipeline, "__call__", twice),
    "detector_runs": (FacePipeline, "__call__", twice),
    "detector_pixels": (FacePipeline, "__call__", twice),
    "pictures": (preprocess, "cut", on_a_copy_of_the_frame),
    "peak_bytes": (preprocess, "cut", on_a_copy_of_the_frame),
}
"""A count -> what a careless change would replace, and by what."""


@pytest.mark.parametrize("count", WASTES)
def test_a_loop_that_does_more_is_noticed(monkeypatch, count):
    frames = clip_frames("demo")[:4]
    usual = counts_of(frames, FPS)
    owner, name, wasteful = WASTES[count]
    monkeypatch.setattr(owner, name, wasteful(getattr(owner, name)))
    assert getattr(counts_of(frames, FPS), count) > 1.2 * getattr(usual, count)
