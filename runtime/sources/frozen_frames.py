"""Whether the pictures of a live source are alive: one that repeats to the last bit, or is black, is no news."""

from __future__ import annotations

import numpy as np

from iern.runtime.imaging.images import Image

SAMPLES = 120
"""A picture is judged by a grid of about so many of its lines and columns: enough that the noise of a sensor shows."""

BLACK = 16
"""Of 255: black in video, and what is below."""

LIT = 0.01
"""A picture with a smaller part of its samples above `BLACK` is black: hot pixels light no scene."""

LONGEST_LIMIT = 3600.0
"""Seconds: a test card is opened anew once an hour in the end."""


class FrozenFrameDetector:
    """Follows the pictures of one source, over all its reconnects. Times in seconds of one clock."""

    def __init__(self, patience: float, now: float) -> None:
        self.repeated = 0
        """Pictures that equalled the one before."""
        self.black = False
        """Whether the last picture was black."""
        self._patience = self._limit = patience
        self._lively = self._retried = now
        self._last: Image | None = None

    def see(self, image: Image, now: float) -> None:
        """Take note of one more picture."""
        sample = sampled(image)
        same = self._last is not None and np.array_equal(sample, self._last)
        self._last = sample
        self.repeated += same
        self.black = is_black(sample)
        if not same and not self.black:
            self._lively, self._limit = now, self._patience

    def unwell(self, now: float) -> bool:
        """Whether nothing new was to be seen for longer than the patience."""
        return now - self._lively >= self._patience

    def retry_due(self, now: float) -> bool:
        """Whether it is time to see if opening the source anew helps."""
        return now - max(self._lively, self._retried) >= self._limit

    def retried(self, now: float) -> None:
        """It was opened anew; where that does not help, the next time comes after twice as long."""
        self._retried, self._limit = now, min(2 * self._limit, LONGEST_LIMIT)


def sampled(image: Image) -> Image:
    """(H, W, 3) -> a copy of every n-th line and column: a caller may draw on the picture itself."""
    step = max(1, min(image.shape[:2]) // SAMPLES)
    return image[::step, ::step].copy()


def is_black(image: Image) -> bool:
    """Whether there is nothing to see in (H, W, 3) uint8."""
    return bool(np.count_nonzero(image > BLACK) < LIT * image.size)
