"""Ids of faces over time: stable over gaps and crossings, new after a jump of the clock, with bounded memory."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from iern.runtime.faces.tracker import MAX_GAP, FaceTracker
from iern.runtime.imaging.detection import Detection

FPS = 25
MARKS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
"""Landmarks in a box of 1."""


def face(x: float, y: float = 100.0, size: float = 100.0) -> Detection:
    """Return a face whose box has its upper left corner at x and y, in pixels."""
    return Detection(x, y, size, 1.2 * size, np.array([x, y]) + MARKS * size, 0.9)


def jittering(x: float, y: float, size: float, rng: np.random.Generator) -> Detection:
    """Return the face as a detector gives it: off by a pixel or two."""
    dx, dy = rng.normal(0, 1.5, 2)
    return face(x + dx, y + dy, size * rng.normal(1, 0.02))


def test_ids_count_from_one_and_follow_the_face_not_its_place_in_the_list():
    tracker = FaceTracker()
    assert tracker.update([face(0), face(300), face(600)], 0.0) == [1, 2, 3]
    assert tracker.update([face(605), face(4), face(298)], 0.04) == [3, 1, 2]
    assert tracker.update([], 0.08) == []
    assert tracker.update([face(298)], 0.12) == [2]


@pytest.mark.parametrize("hidden", [False, True], ids=["both seen", "one hidden behind the other"])
@pytest.mark.parametrize("aside", [0.0, 20.0], ids=["same height", "20 pixels lower"])
@pytest.mark.parametrize("seed", range(5))
def test_two_faces_that_cross_keep_their_ids(hidden, aside, seed):
    rng, tracker = np.random.default_rng(seed), FaceTracker()
    for frame in range(2 * FPS):
        seconds = frame / FPS
        left, right = 100 + 200 * seconds, 500 - 200 * seconds
        faces = {1: jittering(left, 100, 100, rng), 2: jittering(right, 100 + aside, 100, rng)}
        if hidden and abs(left - right) < 50:  # a detector drops one of two boxes that overlap
            del faces[2]
        order = [*faces] if frame == 0 else rng.permutation([*faces]).tolist()
        found = tracker.update([faces[id] for id in order], seconds)
        if abs(left - right) > 20:  # nearer, even a person could not tell them apart
            assert found == order, f"frame {frame}"


@pytest.mark.parametrize("gap", [0.1, 0.5, 0.96])
def test_a_face_that_is_missed_for_less_than_a_second_keeps_its_id(gap):
    rng, tracker = np.random.default_rng(0), FaceTracker()
    for frame in range(FPS):
        assert tracker.update([jittering(100, 100, 80, rng)], frame / FPS) == [1]
    assert tracker.update([jittering(100, 100, 80, rng)], (FPS - 1) / FPS + gap) == [1]


def test_a_face_that_stays_away_is_new_when_it_comes_back():
    tracker = FaceTracker()
    tracker.update([face(100), face(400)], 0.0)
    for frame in range(1, FPS + 1):
        assert tracker.update([face(400)], frame / FPS) == [2]
    assert tracker.update([face(100), face(400)], 1.04) == [3, 2]


def test_a_face_far_from_all_others_is_new_at_once():
    tracker = FaceTracker()
    assert tracker.update([face(100)], 0.0) == [1]
    assert tracker.update([face(250)], 0.04) == [2]
    assert tracker.update([face(100, size=300)], 0.08) == [3], "three times as large"


@pytest.mark.parametrize("clock", [4.0, -3600.0, 5.0 + MAX_GAP, 5 + 7 * 3600, math.nan, math.inf])
def test_after_a_jump_of_the_clock_a_face_is_new_and_is_tracked_from_there(clock):
    tracker = FaceTracker()
    assert tracker.update([face(100)], 5.0) == [1]
    assert tracker.update([face(100)], clock) == [2]
    if math.isfinite(clock):
        assert tracker.update([face(101)], clock + 0.04) == [2]
    assert tracker.update([face(101)], 1e6) == [3]


def test_frames_with_the_same_time_share_a_face():
    tracker = FaceTracker()
    assert [tracker.update([face(100 + i)], 1.0) for i in range(3)] == [[1], [1], [1]]


def test_pictures_of_a_folder_which_are_a_second_apart_share_no_face():
    tracker = FaceTracker()
    assert [tracker.update([face(100)], float(index)) for index in range(3)] == [[1], [2], [3]]


def test_boxes_without_an_area_are_tracked():
    tracker = FaceTracker()
    with np.errstate(all="raise"):
        assert tracker.update([face(10, size=0), face(10, size=0)], 0.0) == [1, 2]
        assert tracker.update([face(10, size=0)], 0.04) == [1]


def resident() -> int:
    """Return the bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is read from Linux's /proc")
def test_memory_is_bounded_over_20_000_frames_of_0_to_16_faces_that_come_and_go():
    rng, tracker = np.random.default_rng(0), FaceTracker()
    scenes = [[face(*rng.uniform(0, 2000, 2), size=rng.uniform(20, 200)) for _ in range(16)] for _ in range(50)]
    sizes = []
    for index in range(20_000):
        scene = scenes[index // 100 % len(scenes)]
        faces = [scene[i] for i in rng.permutation(16)[: rng.integers(0, 17)]]
        assert len(set(tracker.update(faces, index / FPS))) == len(faces)
        if index % 1000 == 999:
            sizes.append(resident())
    assert sizes[-1] - sizes[1] < 5 << 20, f"bytes after each 1000 frames: {sizes}"


def test_no_more_tracks_are_kept_than_faces_were_seen_in_a_second():
    rng, tracker = np.random.default_rng(0), FaceTracker()
    for index in range(100):
        count = 16 if index < 70 else 0
        tracker.update([face(*rng.uniform(0, 2000, 2)) for _ in range(count)], index / FPS)
        assert len(tracker._tracks) <= 16 * FPS * MAX_GAP
    assert not tracker._tracks
