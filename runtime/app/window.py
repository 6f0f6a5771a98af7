"""The window on the desktop: shows the frames in the source's own time, and does what its keys say."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from iern.runtime.drawing.lettering import panel
from iern.runtime.imaging.images import Image
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.video.recording_switch import RecordingSwitch, stamped
from iern.runtime.sources.base import Source
from iern.runtime.system.files import atomic_path

TITLE = "IERN"
LARGEST = (1280, 720)
"""A larger frame is shown smaller, so that the window fits a screen."""
GLANCE_MS = 50
"""Longest wait in one call of OpenCV: Ctrl-C is noticed only between calls."""
NOTICE_S = 2.0
"""How long the window says what a key did."""

KEY_BITS = 0xFFFF
"""Of a key's code; above are Shift and its like. The low byte alone would take an arrow for Q."""
ESCAPE = "\x1b"

KEYS = (
    "h  these keys",
    "p  pause; a camera is watched on behind the picture",
    "s  snapshot of what is shown, as PNG",
    "r  record, and stop",
    "o  overlay off, and on",
    "c  bars: the mean answer, and that under each context",
    "q, Esc  leave",
)


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
    trial = [sys.executable, "-c", "import cv2; cv2.namedWindow('trial')"]
    try:
        opened = subprocess.run(trial, capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        opened = False
    return "" if opened else f"the display {display} does not open a window"


@contextlib.contextmanager
def window(source: Source, one_by_one: bool, recorder: RecordingSwitch, folder: Path) -> Iterator[Window]:
    """An open window; snapshots go to `folder`. Belongs to the main thread, as Qt asks."""
    os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")  # Qt misses fonts that nothing here uses
    cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    try:
        yield Window(source, one_by_one, recorder, folder)
    finally:
        cv2.destroyAllWindows()


class Window:
    """A sink that shows each view, and what the loop calls at each turn, so that keys are heard while there is none.

    `one_by_one` waits for a key at each view; otherwise files play at their own speed.
    """

    def __init__(self, source: Source, one_by_one: bool, recorder: RecordingSwitch, folder: Path) -> None:
        self._source, self._one_by_one, self._recorder, self._folder = source, one_by_one, recorder, folder
        self._view: FrameResult | None = None
        self._start: float | None = None
        self._size = (0, 0)
        self._paused = self._plain = self._strata = self._help = self._next = False
        self._notice, self._notice_until = "press h for the keys", time.monotonic() + NOTICE_S
        self._shown: tuple[FrameResult | None, object] = None, None

    def __call__(self, view: FrameResult) -> None:
        """Show it, until its time has come or a key asks for the next."""
        if self._paused and self._source.live:
            self.hear()
            return
        self._view, self._next = view, False
        now = time.monotonic()
        if self._start is None:
            self._start = now - view.frame.time
        while not self._source.stopped:
            before = time.monotonic()
            left = 0.0 if self._source.live else self._start + view.frame.time - before
            self._listen(GLANCE_MS / 1000 if self._waits else left)
            if self._waits:
                self._start += time.monotonic() - before  # a film goes on where it was
            elif left <= GLANCE_MS / 1000 or self._one_by_one:
                return

    @property
    def _waits(self) -> bool:
        """Whether the picture stays until a key is pressed."""
        return not self._source.live and not self._next and (self._paused or self._one_by_one)

    def hear(self) -> None:
        """Take a key, whether there is something new to show or not."""
        self._listen(0)

    def _listen(self, seconds: float) -> None:
        """Let the window draw and take a key, for so long and at most a glance."""
        self._refresh()
        key = cv2.waitKeyEx(int(max(1, min(1000 * seconds, GLANCE_MS))))
        if key != -1:
            self._press(key & KEY_BITS)
            self._refresh()
        if self._view and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:  # its own button
            self._source.stop()

    def _press(self, key: int) -> None:
        """Do what the key says; any other asks for the next image."""
        letter = chr(key).lower()
        if letter in ("q", ESCAPE):
            self._source.stop()
        elif letter == "h":
            self._help = not self._help
        elif letter == "p":
            self._paused = not self._paused
        elif letter == "o":
            self._plain = not self._plain
        elif letter == "c":
            self._strata = not self._strata
        elif letter == "s":
            self._say(self._snapshot())
        elif letter == "r":
            self._recorder.wanted = not self._recorder.wanted
            self._say("recording" if self._recorder.wanted else "recording ends")
        else:
            self._next = True

    def _say(self, text: str) -> None:
        self._notice, self._notice_until = text, time.monotonic() + NOTICE_S

    def _snapshot(self) -> str:
        if self._view is None:
            return "no picture yet"
        path = stamped(self._folder, ".png")
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(cv2.imencode(".png", self._picture(self._view))[1].tobytes())
        except OSError as error:
            return f"no snapshot: {error.strerror or error}"
        print(f"wrote {path}", flush=True)
        return f"wrote {path.name}"

    def _picture(self, view: FrameResult) -> Image:
        """The frame, drawn on as the keys have it."""
        if self._plain:
            return view.frame.image
        return view.drawn(strata=True) if self._strata else view.annotated

    def _refresh(self) -> None:
        """Show what is to be seen now, where that is something else than before."""
        lines = self._lines()
        look = self._plain, self._strata, lines
        if self._view is None or (self._view is self._shown[0] and look == self._shown[1]):
            return
        self._shown = self._view, look
        picture = self._picture(self._view)
        if lines:
            picture = picture.copy()
            panel(picture, lines)
        self._fit(picture)
        cv2.imshow(TITLE, picture)

    def _lines(self) -> list[str]:
        """What stands over the picture."""
        lines = list(KEYS) if self._help else []
        if time.monotonic() < self._notice_until:
            lines.append(self._notice)
        if self._paused:
            lines.append("paused")
        state = self._source.state
        if state not in ("live", "ended"):
            lines.append(f"{self._source.name}: {self._source.trouble or state}")
        return lines

    def _fit(self, picture: Image) -> None:
        """Give the window the picture's size, where the picture has another than before."""
        size = picture.shape[1], picture.shape[0]
        if size != self._size:
            self._size = size
            scale = min(1.0, LARGEST[0] / size[0], LARGEST[1] / size[1])
            cv2.resizeWindow(TITLE, max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
