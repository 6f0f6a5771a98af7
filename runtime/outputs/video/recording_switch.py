"""A recording that can be switched on and off while the loop runs."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from iern.runtime.errors import IernError, in_short
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.queued_sink import QueuedSink

Open = Callable[[Path], contextlib.AbstractContextManager[QueuedSink]]
"""A path -> what records into it, in a thread of its own."""


class RecordingSwitch:
    """A sink that records while `wanted`, each time into a file of its own; a context manager that finishes the last.

    `wanted` may be set from any thread: the loop's own opens the files, at each `turn`. One that is no longer wanted is
    finished in a thread, since frames wait to be written and a slow disk keeps its writer waiting. A recording that
    fails is said and no longer wanted, and the loop goes on without it.
    """

    def __init__(self, open_recording: Open, folder: Path, first: Path | None = None) -> None:
        """With `first` it begins at once, into that file; later ones are named by their time and stand in `folder`."""
        self.wanted = first is not None
        self.failure = ""
        """Of the last recording that failed, its file and why; empty where none did."""
        self.path: Path | None = None
        """The file that is being written or finished, or will be written from the next view on."""
        self._open = open_recording
        self._folder = folder
        self._first = first
        self._recording: QueuedSink | None = None
        self._finishing: threading.Thread | None = None
        self._views = 0
        self._stack = contextlib.ExitStack()

    def __call__(self, view: FrameResult) -> None:
        """Record it, if that is wanted."""
        self.turn()
        if self._recording is not None:
            self._recording(view)
            self._views += 1

    def turn(self) -> None:
        """Begin and end as is wanted by now; the next begins when the one before is finished."""
        if self._recording is not None and (self._recording.failure or not self.wanted):
            recording, self._recording = self._recording, None
            self._finishing = threading.Thread(target=self._finish, args=(recording,), name="recording's end")
            self._finishing.start()
        if self._recording is None and self.wanted and not self._is_finishing:
            try:
                self._begin(stamped(self._folder, ".webm"))
            except (IernError, OSError) as error:
                self._fail(error)

    @property
    def _is_finishing(self) -> bool:
        return self._finishing is not None and self._finishing.is_alive()

    def _begin(self, path: Path) -> None:
        self._recording, self._views = self._stack.enter_context(self._open(path)), 0
        self.path = path

    def _finish(self, recording: QueuedSink) -> None:
        """Wait until everything is written; whether it failed is known only then."""
        path = self.path
        try:
            self._stack.close()
        except Exception as error:  # whatever it is: in a thread nobody else would hear of it
            self._fail(error)
        else:
            if recording.failure:
                self.wanted, self.failure = False, f"{path}: {recording.failure}"
            elif self._views:
                print(f"wrote {path}", flush=True)
        self.path = None  # last: who waits for the end reads the rest then

    def _fail(self, error: Exception) -> None:
        self.wanted, self.failure = False, in_short(error) or type(error).__name__
        print(f"warning: {self.failure}; the loop goes on without this recording", file=sys.stderr, flush=True)

    def __enter__(self) -> RecordingSwitch:
        """Raises IernError and OSError where the first recording cannot begin."""
        if self._first is not None:
            self._begin(self._first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._finishing is not None:
            self._finishing.join()
        if error is not None:
            self._stack.__exit__(kind, error, trace)
        elif self._recording is not None:
            self._finish(self._recording)


def stamped(folder: Path, suffix: str) -> Path:
    """A path for something made now, as `iern_20261231_235959.png`; counts on where that is taken."""
    name = time.strftime("iern_%Y%m%d_%H%M%S")
    names = [name, *(f"{name}_{number}" for number in range(2, 100))]
    return next((path for name in names if not (path := folder / (name + suffix)).exists()), folder / (name + suffix))
