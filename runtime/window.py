"""The window on the desktop: shows annotated frames in the source's own time, and listens for q and Esc."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import cv2

from iern.runtime.sources import Source
from iern.runtime.view import Sink, View

TITLE = "IERN"
LEAVE = (ord("q"), ord("Q"), 27)
"""q and Esc"""
LARGEST = (1280, 720)
"""A larger frame is shown smaller, so that the window fits a screen."""
GLANCE_MS = 50
"""Longest wait in one call of OpenCV: Ctrl-C is noticed only between calls."""


def window_problem() -> str:
    """Why no window can be shown, with the remedy; empty where one can.

    Asked before the first window, because Qt does not report a missing display: it aborts the process. A display may
    also be named and not be there, which only trying tells, so another process tries.
    """
    if not cv2.currentUIFramework():
        return "this OpenCV is built without windows (pip install opencv-python in place of opencv-python-headless)"
    if sys.platform != "linux":
        return ""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not display:
        return "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    trial = [sys.executable, "-c", "import cv2; cv2.namedWindow('IERN')"]
    try:
        opened = subprocess.run(trial, capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        opened = False
    return "" if opened else f"the display {display} does not open a window"


@contextlib.contextmanager
def window(source: Source, one_by_one: bool) -> Iterator[Sink]:
    """A sink that shows each view; `one_by_one` waits for a key at each, otherwise files play at their own speed.

    q, Esc and the window's own button stop the source.
    """
    os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")  # Qt misses fonts that nothing here uses
    cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    shown_size = (0, 0)
    start: float | None = None

    def show(view: View) -> None:
        nonlocal shown_size, start
        size = view.annotated.shape[1], view.annotated.shape[0]
        if size != shown_size:
            shown_size = size
            scale = min(1.0, LARGEST[0] / size[0], LARGEST[1] / size[1])
            cv2.resizeWindow(TITLE, max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        cv2.imshow(TITLE, view.annotated)
        now = time.monotonic()
        if start is None:
            start = now - view.frame.time
        if one_by_one:
            until = float("inf")
        else:
            until = now if source.live else start + view.frame.time
        _listen(source, until, any_key=one_by_one)

    try:
        yield show
    finally:
        cv2.destroyAllWindows()


def _listen(source: Source, until: float, any_key: bool) -> None:
    """Let the window draw and take keys until that time of the monotonic clock, at least once."""
    while not source.stopped:
        left_ms = 1000 * (until - time.monotonic())
        key = cv2.waitKey(int(max(1, min(left_ms, GLANCE_MS))))
        if key & 0xFF in LEAVE or cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            source.stop()
        if left_ms <= GLANCE_MS or (any_key and key != -1):
            return
