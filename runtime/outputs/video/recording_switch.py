"""Switches a recording on and off while the loop runs."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from iern.runtime.errors import IernError, message_of
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.queued_sink import QueuedSink

OpenRecording = Callable[[Path], contextlib.AbstractContextManager[QueuedSink]]
"""A path -> a sink that records into that file, in a thread of its own."""


class RecordingSwitch:
    """A sink that records while `wanted`, each time into a new file. A context manager that finishes the last one.

    `wanted` may be set from any thread. The loop's thread opens the files, at each `update`. A thread finishes a
    recording that is no longer wanted, because frames wait to be written and a slow disk would block the loop. If a
    recording fails, the error is printed, `wanted` becomes false, and the loop continues without it.
    """

    def __init__(self, open_recording: OpenRecording, folder: Path, first_path: Path | None = None) -> None:
        """With `first_path` a recording begins at once, in that file. Later files are in `folder`, named by time."""
        self.wanted = first_path is not None
        self.failure = ""
        """The file of the last recording that failed, and why. Empty if none failed."""
        self.path: Path | None = None
        """The file that is being written or finished, or that the next result begins."""
        self.written: list[Path] = []
        """The finished recordings, in order."""
        self._open = open_recording
        self._folder = folder
        self._first_path = first_path
        self._recording: QueuedSink | None = None
        self._finishing: threading.Thread | None = None
        self._recorded = 0
        self._stack = contextlib.ExitStack()

    def __call__(self, result: FrameResult) -> None:
        """Record the result if `wanted`."""
        self.update()
        if self._recording is not None:
            self._recording(result)
            self._recorded += 1

    def update(self) -> None:
        """Begin or end a recording if `wanted` has changed. A recording begins when the one before is finished."""
        if self._recording is not None and (self._recording.failure or not self.wanted):
            recording, self._recording = self._recording, None
            self._finishing = threading.Thread(target=self._finish, args=(recording,), name="recording's end")
            self._finishing.start()
        if self._recording is None and self.wanted and not self._is_finishing:
            try:
                self._begin(timestamped_path(self._folder, ".webm"))
            except (IernError, OSError) as error:
                self._fail(error)

    @property
    def _is_finishing(self) -> bool:
        return self._finishing is not None and self._finishing.is_alive()

    def _begin(self, path: Path) -> None:
        self._recording, self._recorded = self._stack.enter_context(self._open(path)), 0
        self.path = path

    def _finish(self, recording: QueuedSink) -> None:
        """Wait until everything is written. Only then it is known whether the recording failed."""
        path = self.path
        try:
            self._stack.close()
        except Exception as error:  # any error: this may be a thread of its own, where nothing else would report it
            self._fail(error)
        else:
            if recording.failure:
                self.wanted, self.failure = False, f"{path}: {recording.failure}"
            elif self._recorded and path is not None:
                self.written.append(path)
                print(f"wrote {path}", flush=True)
        self.path = None  # last: another thread that waits for it reads `failure` then

    def _fail(self, error: Exception) -> None:
        self.wanted, self.failure = False, message_of(error) or type(error).__name__
        print(f"warning: {self.failure}; the loop continues without this recording", file=sys.stderr, flush=True)

    def __enter__(self) -> RecordingSwitch:
        """Raises IernError and OSError if the first recording cannot begin."""
        if self._first_path is not None:
            self._begin(self._first_path)
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


def timestamped_path(folder: Path, suffix: str) -> Path:
    """A path for a file made now, such as `iern_20261231_235959.png`. If it exists, a number is added."""
    name = time.strftime("iern_%Y%m%d_%H%M%S")
    names = [name, *(f"{name}_{number}" for number in range(2, 100))]
    return next((path for name in names if not (path := folder / (name + suffix)).exists()), folder / (name + suffix))
