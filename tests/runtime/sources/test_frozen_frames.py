"""Which frames count as black or equal. Real ones never do, however dark or still the scene is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from iern.runtime.sources.frozen_frames import FrozenFrameDetector, is_black, sample_grid


def scene(level: int, seed: int = 0, noise: int = 3) -> np.ndarray:
    """A still scene as a sensor sees it: every frame has its own noise."""
    random = np.random.default_rng(seed)
    return np.clip(level + random.integers(-noise, noise + 1, (480, 640, 3)), 0, 255).astype(np.uint8)


def test_a_still_scene_with_the_noise_of_a_sensor_is_never_frozen():
    detector = FrozenFrameDetector(timeout=1.0, now=0.0)
    for second in range(20):
        detector.update(scene(120, seed=second, noise=1), float(second))
        assert not detector.is_frozen(float(second))
    assert detector.repeated == 0


def test_a_repeated_frame_is_frozen_after_the_timeout_until_the_first_new_one():
    detector = FrozenFrameDetector(timeout=3.0, now=0.0)
    frozen = []
    for second in range(6):
        detector.update(scene(120), float(second))
        frozen.append(detector.is_frozen(float(second)))
    assert frozen == [False, False, False, True, True, True]
    assert (detector.repeated, detector.black) == (5, False)
    detector.update(scene(120, seed=1), 6.0)
    assert not detector.is_frozen(6.0)


def test_a_retry_comes_after_the_timeout_and_then_after_twice_as_long_until_a_frame_is_new():
    detector = FrozenFrameDetector(timeout=1.0, now=0.0)
    detector.update(scene(0), 0.0)
    retries = []
    for now in np.arange(0, 40, 0.5):
        detector.update(scene(0, noise=0), now)
        if detector.retry_due(now):
            retries.append(now)
            detector.note_retry(now)
    assert np.diff(retries).tolist() == [2, 4, 8, 16]
    detector.update(scene(120), 40.0)
    assert not detector.retry_due(40.5)
    assert detector.retry_due(41.0)


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
    assert is_black(sample_grid(image)) == black


def test_a_black_frame_with_hot_pixels_is_still_black():
    image = np.zeros((480, 640, 3), np.uint8)
    image[::100, ::100] = 255
    assert is_black(image)


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (241, 321), (1, 1), (17, 4096), (4096, 17)])
def test_a_face_that_moves_is_seen_at_any_size(shape):
    still = np.full((*shape, 3), 100, np.uint8)
    moved = still.copy()
    height, width = shape
    cv2.circle(moved, (width // 2, height // 2), max(1, min(shape) // 20), (200, 180, 160), -1)
    detector = FrozenFrameDetector(1.0, 0.0)
    detector.update(still, 0.0)
    detector.update(moved, 1.0)
    assert detector.repeated == 0


def test_drawing_on_a_frame_afterwards_does_not_hide_that_the_next_one_is_equal():
    detector, image = FrozenFrameDetector(1.0, 0.0), scene(100)
    detector.update(image, 0.0)
    image[:] = 0
    detector.update(scene(100), 1.0)
    assert detector.repeated == 1
