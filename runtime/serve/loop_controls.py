"""Connects the page's buttons to the loop: the recording, the log, and the selection of the source."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from iern.runtime.errors import OutputError
from iern.runtime.outputs.video.recording_switch import RecordingSwitch
from iern.runtime.sources.switchable import SwitchableSource

LOOP_TIMEOUT = 10.0
"""Seconds for which a button waits for the loop."""


class LoopControls:
    """Implements `PageControls`. The loop acts at its next turn, and the caller waits for it."""

    def __init__(self, recorder: RecordingSwitch, log: Path | None, switchable: SwitchableSource | None) -> None:
        """`log` is the file of records that is being written. `switchable` is None if there is only one source."""
        self._recorder = recorder
        self._switchable = switchable
        self.log = log

    @property
    def recording(self) -> bool:
        return self._recorder.path is not None

    @property
    def sources(self) -> Sequence[str]:
        return self._switchable.names if self._switchable else ()

    @property
    def source(self) -> str:
        return self._switchable.selected if self._switchable else ""

    def start_recording(self) -> None:
        """Raises OutputError if the recording cannot begin."""
        self._recorder.wanted = True
        _wait_until(lambda: self.recording or not self._recorder.wanted, "begin the recording")
        if not self.recording:
            raise OutputError(self._recorder.failure)

    def stop_recording(self) -> None:
        """Raises OutputError if the recording failed on its last frames."""
        before = self._recorder.failure
        self._recorder.wanted = False
        _wait_until(lambda: not self.recording, "finish the recording")
        if self._recorder.failure != before:
            raise OutputError(self._recorder.failure)

    def select_source(self, name: str) -> None:
        """Raises SourceError if the source cannot be opened."""
        assert self._switchable is not None
        self._switchable.select(name)


def _wait_until(done: Callable[[], bool], action: str) -> None:
    end = time.monotonic() + LOOP_TIMEOUT
    while not done():
        if time.monotonic() > end:
            raise OutputError(f"the loop did not {action} within {LOOP_TIMEOUT:g} s; see what the loop printed")
        time.sleep(0.02)
