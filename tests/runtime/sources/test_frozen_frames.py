"""What is called black or the same: real pictures are neither, however dark or still."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from iern.runtime.sources.frozen_frames import FrozenFrameDetector, is_black, sampled


def scene(level: int, seed: int = 0, noise: int = 3) -> np.ndarray:
    """A still scene as a sensor gives it: every picture has its own noise."""
    random = np.random.default_rng(seed)
    return np.clip(level + random.integers(-noise, noise + 1, (480, 640, 3)), 0, 255).astype(np.uint8)


def test_a_still_scene_with_the_noise_of_a_sensor_is_never_the_same():
    freshness = FrozenFrameDetector(patience=1.0, now=0.0)
    for second in range(20):
        freshness.see(scene(120, seed=second, noise=1), float(second))
        assert not freshness.unwell(float(second))
    assert freshness.repeated == 0


def test_a_picture_that_repeats_is_unwell_after_the_patience_and_well_with_the_first_new_one():
    freshness = FrozenFrameDetector(patience=3.0, now=0.0)
    unwell = []
    for second in range(6):
        freshness.see(scene(120), float(second))
        unwell.append(freshness.unwell(float(second)))
    assert unwell == [False, False, False, True, True, True]
    assert (freshness.repeated, freshness.black) == (5, False)
    freshness.see(scene(120, seed=1), 6.0)
    assert not freshness.unwell(6.0)


def test_a_retry_comes_after_the_patience_and_then_after_twice_as_long_until_the_picture_is_new():
    freshness = FrozenFrameDetector(patience=1.0, now=0.0)
    freshness.see(scene(0), 0.0)
    retries = []
    for now in np.arange(0, 40, 0.5):
        freshness.see(scene(0, noise=0), now)
        if freshness.retry_due(now):
            retries.append(now)
            freshness.retried(now)
    assert np.diff(retries).tolist() == [2, 4, 8, 16]
    freshness.see(scene(120), 40.0)
    assert not freshness.retry_due(40.5)
    assert freshness.retry_due(41.0)


@pytest.mark.parametrize(
    ("image", "black"),
    [
        (np.zeros((48, 64, 3), np.uint8), True),
        (np.full((48, 64, 3), 16, np.uint8), True),
        (scene(8), True),
        (scene(30), False),
        (np.pad(np.full((60, 80, 3), 200, np.uint8), ((0, 420), (0, 560), (0, 0))), False),
        (np.zeros((1, 1, 3), np.uint8), True),
        (np.full((1, 1, 3), 200, np.uint8), False),
    ],
    ids=["black", "black of video", "lens cap", "dark room", "a lamp in the night", "1x1 black", "1x1 lit"],
)
def test_black_means_that_there_is_nothing_to_see(image, black):
    assert is_black(sampled(image)) == black


def test_hot_pixels_do_not_light_a_black_picture():
    image = np.zeros((480, 640, 3), np.uint8)
    image[::100, ::100] = 255
    assert is_black(image)


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (241, 321), (1, 1), (17, 4096), (4096, 17)])
def test_a_face_that_moves_is_seen_at_any_size(shape):
    still = np.full((*shape, 3), 100, np.uint8)
    moved = still.copy()
    height, width = shape
    cv2.circle(moved, (width // 2, height // 2), max(1, min(shape) // 20), (200, 180, 160), -1)
    freshness = FrozenFrameDetector(1.0, 0.0)
    freshness.see(still, 0.0)
    freshness.see(moved, 1.0)
    assert freshness.repeated == 0


def test_drawing_on_a_frame_afterwards_does_not_hide_that_the_next_is_the_same():
    freshness, image = FrozenFrameDetector(1.0, 0.0), scene(100)
    freshness.see(image, 0.0)
    image[:] = 0
    freshness.see(scene(100), 1.0)
    assert freshness.repeated == 1
