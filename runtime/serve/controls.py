"""What the buttons of the page can do. Without controls the page only shows the loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class PageControls(Protocol):
    """The loop's side of the page's buttons.

    The server's thread reads the properties often: they must return at once. A thread of its own calls the methods, one
    at a time, and they may wait. A method that fails raises IernError, whose text the page shows.
    """

    @property
    def recording(self) -> bool:
        """Whether a recording is being written."""

    @property
    def sources(self) -> Sequence[str]:
        """The names of the allowed sources, without credentials. Fewer than two: the page offers no choice."""

    @property
    def source(self) -> str:
        """The name, out of `sources`, of the current source or of the one that is being opened."""

    @property
    def log(self) -> Path | None:
        """The file of JSON lines or CSV that is being written. None if there is none."""

    def start_recording(self) -> None:
        """Begin a new recording, in the folder of the recordings. Do nothing if one is being written."""

    def stop_recording(self) -> None:
        """Finish the recording. Do nothing if none is being written."""

    def select_source(self, name: str) -> None:
        """Switch to another source. `name` is one of `sources`: the server refuses every other name."""
