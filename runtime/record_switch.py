"""A recording that can be switched on and off while the loop runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from iern.runtime.errors import IernError
from iern.runtime.view import Sink, View

Open = Callable[[Path], contextlib.AbstractContextManager[Sink]]
"""A path -> the sink that records into it."""


class RecordSwitch:
    """A sink that records while `wanted`, each time into a file of its own; a context manager that finishes the last.

    `wanted` may be set from any thread: the thread that hands over the views opens and closes the files.
    """

    def __init__(self, open_recording: Open, folder: Path, first: Path | None = None) -> None:
        """With `first` it begins at once, into that file; later ones are named by their time and stand in `folder`."""
        self.wanted = first is not None
        self._open = open_recording
        self._folder = folder
        self._first = first
        self._path: Path | None = None
        self._sink: Sink | None = None
        self._stack = contextlib.ExitStack()

    @property
    def path(self) -> Path | None:
        """The file that is being written."""
        return self._path

    def __call__(self, view: View) -> None:
        """Raises what the first recording raises; a later one that fails is said, and the loop goes on without it."""
        try:
            self._record(view)
        except (IernError, OSError) as error:
            if self._first is not None:
                raise
            print(f"note: the recording has ended: {error}", flush=True)
            self.wanted, self._sink, self._path = False, None, None
            with contextlib.suppress(IernError, OSError):  # one reason is enough
                self._stack.__exit__(type(error), error, error.__traceback__)

    def _record(self, view: View) -> None:
        if self._sink is not None and not self.wanted:
            self._finish()
        if self._sink is None and self.wanted:
            self._path = self._first or stamped(self._folder, ".webm")
            self._sink = self._stack.enter_context(self._open(self._path))
        if self._sink is not None:
            self._sink(view)

    def _finish(self) -> None:
        self._stack.close()
        print(f"wrote {self._path}", flush=True)
        self._first = self._sink = self._path = None

    def __enter__(self) -> RecordSwitch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sink is None:
            return
        if error is not None:
            self._stack.__exit__(kind, error, trace)
        else:
            self._finish()


def stamped(folder: Path, suffix: str) -> Path:
    """A path for something made now, as `iern_20261231_235959.png`; counts on where that is taken."""
    name = time.strftime("iern_%Y%m%d_%H%M%S")
    names = [name, *(f"{name}_{number}" for number in range(2, 100))]
    return next((path for name in names if not (path := folder / (name + suffix)).exists()), folder / (name + suffix))
