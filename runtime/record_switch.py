"""A recording that can be switched on and off while the loop runs."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from iern.runtime.background import Background
from iern.runtime.errors import IernError, in_short
from iern.runtime.view import View

Open = Callable[[Path], contextlib.AbstractContextManager[Background]]
"""A path -> what records into it, in a thread of its own."""


class RecordSwitch:
    """A sink that records while `wanted`, each time into a file of its own; a context manager that finishes the last.

    `wanted` may be set from any thread: the loop's own opens and closes the files, at each `turn`. A recording that
    fails is said and no longer wanted, and the loop goes on without it.
    """

    def __init__(self, open_recording: Open, folder: Path, first: Path | None = None) -> None:
        """With `first` it begins at once, into that file; later ones are named by their time and stand in `folder`."""
        self.wanted = first is not None
        self.failure = ""
        """of the last recording that failed, its file and why; empty where none did"""
        self.path: Path | None = None
        """the file that is being written, or will be from the next view on"""
        self._open = open_recording
        self._folder = folder
        self._first = first
        self._recording: Background | None = None
        self._views = 0
        self._stack = contextlib.ExitStack()

    def __call__(self, view: View) -> None:
        """Record it, if that is wanted."""
        self.turn()
        if self._recording is not None:
            self._recording(view)
            self._views += 1

    def turn(self) -> None:
        """Begin and end as is wanted by now."""
        if self._recording is not None and (self._recording.failure or not self.wanted):
            self._finish()
        if self._recording is None and self.wanted:
            try:
                self._begin(stamped(self._folder, ".webm"))
            except (IernError, OSError) as error:
                self._fail(error)

    def _begin(self, path: Path) -> None:
        self._recording, self._views = self._stack.enter_context(self._open(path)), 0
        self.path = path

    def _finish(self) -> None:
        """Wait until everything is written; whether it failed is known only then."""
        recording, path, self._recording = self._recording, self.path, None
        assert recording is not None
        try:
            self._stack.close()
        except (IernError, OSError) as error:
            self._fail(error)
        else:
            if recording.failure:
                self.wanted, self.failure = False, f"{path}: {recording.failure}"
            elif self._views:
                print(f"wrote {path}", flush=True)
        self.path = None

    def _fail(self, error: IernError | OSError) -> None:
        self.wanted, self.failure = False, in_short(error)
        print(f"warning: {self.failure}; the loop goes on without this recording", file=sys.stderr, flush=True)

    def __enter__(self) -> RecordSwitch:
        """Raises IernError and OSError where the first recording cannot begin."""
        if self._first is not None:
            self._begin(self._first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
        elif self._recording is not None:
            self._finish()


def stamped(folder: Path, suffix: str) -> Path:
    """A path for something made now, as `iern_20261231_235959.png`; counts on where that is taken."""
    name = time.strftime("iern_%Y%m%d_%H%M%S")
    names = [name, *(f"{name}_{number}" for number in range(2, 100))]
    return next((path for name in names if not (path := folder / (name + suffix)).exists()), folder / (name + suffix))
