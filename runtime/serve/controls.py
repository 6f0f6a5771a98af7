"""What the page may ask of the loop. Without controls it only shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Controls(Protocol):
    """The loop's side of the page's buttons.

    The properties are read often, in the server's thread: they must answer at once. The methods are called in a thread
    of their own, one at a time, and may wait; each raises IernError, whose text the page shows, where it cannot.
    """

    @property
    def recording(self) -> bool:
        """Whether a recording is being written."""

    @property
    def sources(self) -> Sequence[str]:
        """The names of the sources that the operator allowed, without credentials; fewer than two: no choice."""

    @property
    def source(self) -> str:
        """The name, out of `sources`, of the one that is watched or being opened."""

    @property
    def log(self) -> Path | None:
        """The JSON lines, or the CSV, being written; None where there are none."""

    def start_recording(self) -> None:
        """Begin a new recording in the record folder; nothing where one is being written."""

    def stop_recording(self) -> None:
        """Finish the recording; nothing where none is being written."""

    def choose_source(self, name: str) -> None:
        """Watch another source; `name` is one of `sources`: the page's other words never get here."""
