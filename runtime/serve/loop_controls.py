"""The page's buttons, wired to the loop: the recording, the log, and the sources to choose from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from iern.runtime.errors import OutputError
from iern.runtime.outputs.video.recording_switch import RecordingSwitch
from iern.runtime.sources.switchable import SwitchableSource

PATIENCE = 10.0
"""Seconds for which a button waits for the loop."""


class LoopControls:
    """What `iern.runtime.serve.controls.Controls` asks for. The loop does it at its next turn, and is waited for."""

    def __init__(self, recorder: RecordingSwitch, log: Path | None, choice: SwitchableSource | None) -> None:
        """`log` is the file of records that is being written; without a `choice` there is one source."""
        self._recorder = recorder
        self._choice = choice
        self.log = log

    @property
    def recording(self) -> bool:
        return self._recorder.path is not None

    @property
    def sources(self) -> Sequence[str]:
        return self._choice.names if self._choice else ()

    @property
    def source(self) -> str:
        return self._choice.chosen if self._choice else ""

    def start_recording(self) -> None:
        """Raises OutputError where it cannot begin."""
        self._recorder.wanted = True
        _await(lambda: self.recording or not self._recorder.wanted, "begin the recording")
        if not self.recording:
            raise OutputError(self._recorder.failure)

    def stop_recording(self) -> None:
        """Raises OutputError where the recording failed on its last frames."""
        before = self._recorder.failure
        self._recorder.wanted = False
        _await(lambda: not self.recording, "finish the recording")
        if self._recorder.failure != before:
            raise OutputError(self._recorder.failure)

    def choose_source(self, name: str) -> None:
        """Raises SourceError where it does not open."""
        assert self._choice is not None
        self._choice.choose(name)


def _await(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > end:
            raise OutputError(f"the loop did not {what} within {PATIENCE:g} s; what it says tells why")
        time.sleep(0.02)
