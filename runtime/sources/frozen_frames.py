"""Detects a live source whose frames are frozen (exactly equal) or black."""

from __future__ import annotations

import numpy as np

from iern.runtime.imaging.images import Image

GRID_LINES = 120
"""Frames are compared on a grid of about this many lines and columns. It is fine enough to see a sensor's noise."""

BLACK = 16
"""Of 255. Black in video has this level or a lower one."""

LIT_SHARE = 0.01
"""A frame is black if a smaller share of its samples is above `BLACK`. A few hot pixels do not count as light."""

LONGEST_RETRY_INTERVAL = 3600.0
"""Seconds. In the end a test card is reopened once an hour."""


class FrozenFrameDetector:
    """Compares the frames of one source, over all its reconnects. Times are seconds of one clock."""

    def __init__(self, timeout: float, now: float) -> None:
        self.repeated = 0
        """Frames that were exactly equal to the one before."""
        self.black = False
        """Whether the last frame was black."""
        self._timeout = self._retry_interval = timeout
        self._last_change = self._last_retry = now
        self._last_sample: Image | None = None

    def update(self, image: Image, now: float) -> None:
        """Compare one more frame with the one before."""
        sample = sample_grid(image)
        equal = self._last_sample is not None and np.array_equal(sample, self._last_sample)
        self._last_sample = sample
        self.repeated += equal
        self.black = is_black(sample)
        if not equal and not self.black:
            self._last_change, self._retry_interval = now, self._timeout

    def is_frozen(self, now: float) -> bool:
        """Whether all frames were equal or black for as long as the timeout."""
        return now - self._last_change >= self._timeout

    def retry_due(self, now: float) -> bool:
        """Whether it is time to reopen the source."""
        return now - max(self._last_change, self._last_retry) >= self._retry_interval

    def note_retry(self, now: float) -> None:
        """Call this when the source is reopened. If that does not help, the next time comes after twice as long."""
        self._last_retry, self._retry_interval = now, min(2 * self._retry_interval, LONGEST_RETRY_INTERVAL)


def sample_grid(image: Image) -> Image:
    """(H, W, 3) -> every n-th line and column, as a copy, since a caller may draw on the frame."""
    step = max(1, min(image.shape[:2]) // GRID_LINES)
    return image[::step, ::step].copy()


def is_black(image: Image) -> bool:
    """Whether an (H, W, 3) uint8 frame is black."""
    return bool(np.count_nonzero(image > BLACK) < LIT_SHARE * image.size)
