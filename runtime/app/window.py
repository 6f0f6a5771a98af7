"""The window on the desktop: shows the frames at the source's own pace, and handles its keys."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from iern.runtime.app.keys import key_lines
from iern.runtime.drawing.overlay import place_labels, status_box
from iern.runtime.drawing.placing import box_of
from iern.runtime.drawing.signs import draw_keys, draw_messages, draw_recording_sign
from iern.runtime.errors import OutputError
from iern.runtime.imaging.images import Image
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.video.recording_switch import RecordingSwitch, timestamped_path
from iern.runtime.sources.base import Source
from iern.runtime.system.files import atomic_path

TITLE = "IERN"
LARGEST = (1280, 720)
"""Pixels. A larger frame is shown smaller, so that the window fits a screen."""
POLL_MS = 50
"""Longest wait in one call of OpenCV. Ctrl-C is noticed only between calls."""
NOTICE_SECONDS = 2.0
"""How long the window shows the effect of a key in words."""

KEY_BITS = 0xFFFF
"""The bits of a key. The bits above are Shift and the like; by the low byte alone an arrow would be Q."""
MODIFIERS = {*range(0xFFE1, 0xFFEF), 0xFE03, 0xFF7F}
"""Keys that only change others: Shift, Control, Alt and their like, Caps Lock and Num Lock. They come as keys of their
own before a `?`."""
ESCAPE = "\x1b"


def window_problem() -> str:
    """Why no window can be shown, with the remedy. Empty if one can.

    The loop calls this before the first window, because without a display Qt aborts the process. A named display may
    not exist, so a window is tried in another process.
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
def window(
    source: Source, one_by_one: bool, recorder: RecordingSwitch, folder: Path, mirror: bool = False
) -> Iterator[Window]:
    """An open window, for the main thread only, as Qt requires. Snapshots are written to `folder`."""
    os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")  # Qt warns about fonts that nothing here uses
    # Without GUI_NORMAL Qt adds a tool bar, and the picture shrinks to what is left of the window.
    cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    try:
        yield Window(source, one_by_one, recorder, folder, mirror)
    finally:
        cv2.destroyAllWindows()


class Window:
    """A sink that shows each result. The loop also calls `handle_key` in each iteration, so keys work between frames.

    `one_by_one` waits for a key at each result; otherwise files play at their own speed. `mirror` exchanges left and
    right in the window, and nowhere else.
    """

    def __init__(
        self, source: Source, one_by_one: bool, recorder: RecordingSwitch, folder: Path, mirror: bool = False
    ) -> None:
        self._source, self._one_by_one, self._recorder, self._folder = source, one_by_one, recorder, folder
        self._result: FrameResult | None = None
        self._start: float | None = None
        self._size = (0, 0)
        self._paused = self._plain = self._strata = self._help = self._next = self._full_screen = False
        self._mirror = mirror
        self._notice, self._notice_until = "press h for the keys", time.monotonic() + NOTICE_SECONDS
        self._shown: tuple[FrameResult | None, object] = None, None

    def __call__(self, result: FrameResult) -> None:
        """Show the result until its time has passed, or until a key asks for the next."""
        if self._paused and self._source.live:
            self.handle_key()
            return
        self._result, self._next = result, False
        now = time.monotonic()
        if self._start is None:
            self._start = now - result.frame.time
        while not self._source.stopped:
            before = time.monotonic()
            left = 0.0 if self._source.live else self._start + result.frame.time - before
            self._draw_and_handle_key(POLL_MS / 1000 if self._waits_for_key else left)
            if self._waits_for_key:
                self._start += time.monotonic() - before  # a video continues where it was
            elif left <= POLL_MS / 1000 or self._one_by_one:
                return

    @property
    def _waits_for_key(self) -> bool:
        """Whether the picture stays until a key is pressed."""
        return not self._source.live and not self._next and (self._paused or self._one_by_one)

    def handle_key(self) -> None:
        """Handle a key if one was pressed, and draw if something changed."""
        self._draw_and_handle_key(0)

    def _draw_and_handle_key(self, seconds: float) -> None:
        """Draw, and wait for a key for `seconds`, but at most POLL_MS."""
        self._refresh()
        key = cv2.waitKeyEx(int(max(1, min(1000 * seconds, POLL_MS))))
        if key != -1 and key & KEY_BITS not in MODIFIERS:
            self._press(key & KEY_BITS)
            self._refresh()
        if self._result and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:  # closed by its own button
            self._source.stop()

    def _press(self, key: int) -> None:
        """Do what `app/keys.py` lists. Any other key shows the next image."""
        letter = chr(key).lower()
        if letter == "f" or (letter == ESCAPE and self._full_screen):
            self._switch_full_screen()
        elif letter in ("q", ESCAPE):
            self._source.stop()
        elif letter in ("h", "?"):
            self._help = not self._help
        elif letter == "m":
            self._mirror = not self._mirror
            self._notify("mirrored, only in this window" if self._mirror else "not mirrored")
        elif letter == "p":
            self._paused = not self._paused
        elif letter == "o":
            self._plain = not self._plain
        elif letter == "c":
            self._strata = not self._strata
        elif letter == "s":
            self._notify(self._snapshot())
        elif letter == "r":
            self._recorder.wanted = not self._recorder.wanted
            self._notify("recording" if self._recorder.wanted else "recording stops")
        else:
            self._next = True

    def _switch_full_screen(self) -> None:
        self._full_screen = not self._full_screen
        state = cv2.WINDOW_FULLSCREEN if self._full_screen else cv2.WINDOW_NORMAL
        cv2.setWindowProperty(TITLE, cv2.WND_PROP_FULLSCREEN, state)
        self._size = (0, 0)  # the window gets the size of the picture when it is drawn again

    def _notify(self, text: str) -> None:
        self._notice, self._notice_until = text, time.monotonic() + NOTICE_SECONDS

    def _snapshot(self) -> str:
        if self._result is None:
            return "no picture yet"
        path = timestamped_path(self._folder, ".png")
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(cv2.imencode(".png", self._picture(self._result))[1].tobytes())
        except OutputError as error:
            print(f"warning: no snapshot: {error}", file=sys.stderr, flush=True)
            return "no snapshot: it cannot be written"
        print(f"wrote {path}", flush=True)
        return f"wrote {path.name}"

    def _picture(self, result: FrameResult) -> Image:
        """The frame with the overlay that the keys have selected."""
        if self._plain:
            return result.frame.image
        return result.drawn(strata=True) if self._strata else result.annotated

    def _refresh(self) -> None:
        """Draw the picture if it or what is drawn over it has changed."""
        messages, recording = self._messages(), self._recorder.wanted
        over = self._plain, self._strata, self._mirror, self._help, recording, messages, self._full_screen
        if self._result is None or (self._result is self._shown[0] and over == self._shown[1]):
            return
        self._shown = self._result, over
        result = self._result.mirrored() if self._mirror else self._result
        picture = self._picture(result)
        if messages or recording or self._help:
            picture = picture.copy()
            self._draw_over(picture, result, messages, recording)
        self._fit(picture)
        cv2.imshow(TITLE, picture)

    def _draw_over(self, picture: Image, result: FrameResult, messages: Sequence[str], recording: bool) -> None:
        """Draw the keys, the sign of a recording and the messages onto the picture, off faces and other texts."""
        faces = [box_of(face) for face in result.faces]
        status = status_box(picture, result.status)
        texts = [] if self._plain else [status, *place_labels(picture, result.faces, [status])]
        if self._help:
            texts.append(draw_keys(picture, key_lines()))
        if recording:
            texts.append(draw_recording_sign(picture, texts, faces))
        if messages:
            draw_messages(picture, messages, texts, faces)

    def _messages(self) -> list[str]:
        """What the window reports now, in lines."""
        lines = [self._notice] if time.monotonic() < self._notice_until else []
        if self._paused:
            lines.append("paused")
        state = self._source.state
        if state not in ("live", "ended"):
            lines.append(f"{self._source.name}: {self._source.problem or state}")
        return lines

    def _fit(self, picture: Image) -> None:
        """Resize the window if the size of the picture has changed. A full screen scales the picture itself."""
        size = picture.shape[1], picture.shape[0]
        if size != self._size and not self._full_screen:
            self._size = size
            scale = min(1.0, LARGEST[0] / size[0], LARGEST[1] / size[1])
            cv2.resizeWindow(TITLE, max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
