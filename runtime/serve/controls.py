"""What the page can do and show beyond the stream. Without controls the page only shows the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from aiohttp import web

LONGEST_HALF_LIFE = 10.0
"""Seconds. The page may not set a longer one: every face would keep its first answer."""


@dataclass(frozen=True)
class About:
    """What runs, for the page's *About*."""

    version: str
    model: str
    """The name of the model's file."""
    provider: str
    """Where the model runs."""
    strata: Sequence[str]
    """The recording conditions, or origins, that the model knows."""
    threshold: float
    """The least probability of a named expression. Below it the face is uncertain."""


@dataclass(frozen=True)
class RunFile:
    """A file that this run wrote, and that the page offers for download."""

    path: Path
    kind: str
    """`records` or `recording`."""
    growing: bool = False
    """Whether lines are still appended. Then only whole lines are sent."""


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
    def files(self) -> Sequence[RunFile]:
        """The files that this run wrote. New ones come last: an address names a file by its place."""

    @property
    def blur(self) -> bool:
        """Whether the faces of the picture that the server sends are unrecognisable."""

    @property
    def blur_fixed(self) -> bool:
        """Whether everything is blurred before it reaches the page. Then `set_blur` changes nothing."""

    @property
    def overlay(self) -> bool:
        """Whether boxes, expressions and the status are drawn on the picture."""

    @property
    def half_life(self) -> float:
        """Seconds after which a prediction counts half. 0: no smoothing."""

    def start_recording(self) -> None:
        """Begin a new recording, in the folder of the recordings. Do nothing if one is being written."""

    def stop_recording(self) -> None:
        """Finish the recording. Do nothing if none is being written."""

    def select_source(self, name: str) -> None:
        """Switch to another source. `name` is one of `sources`: the server refuses every other name."""

    def set_blur(self, on: bool) -> None:
        """Blur the faces of the picture, or stop it."""

    def set_overlay(self, on: bool) -> None:
        """Draw on the picture, or stop it."""

    def set_half_life(self, seconds: float) -> None:
        """Smooth the predictions from now on with this half-life, 0 to LONGEST_HALF_LIFE seconds."""


class MoreRoutes(Protocol):
    """Addresses that another part of the program adds to the server."""

    def add_to(self, app: web.Application) -> None:
        """Register every address, and what starts and ends with the application."""
