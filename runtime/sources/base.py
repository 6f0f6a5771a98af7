"""What every source of frames is: the `Frame`, the `Source` and its state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from iern.runtime.imaging.images import Image

State = Literal["live", "stalled", "black", "reconnecting", "ended"]
"""`stalled`: connected, but without a new frame. `reconnecting`: not connected."""


@dataclass(frozen=True)
class Frame:
    """One frame of a source."""

    image: Image
    """(height, width, 3) uint8 BGR."""
    time: float
    """Seconds: the position in a video file, the place in a folder (one image a second), or since a live start."""
    index: int
    """Counts from 0. Gaps in a live source are frames that it dropped."""
    name: str
    """The path of an image file in its folder, with slashes, or the name of the source."""
    captured: float
    """`time.monotonic()` when the frame was decoded. The age of a frame is measured from it."""
    segment: int = 0
    """Increases with every reconnect, change of size and jump of a video's own clock. A recording in one piece must
    not span two segments."""
    photograph: bool = False
    """Whether it is an image file, not one of many frames. Small faces are then searched for, which takes longer."""
    source: str = ""
    """The name of its source among several. Empty if there is only one."""


class Source(ABC):
    """Yields frames in order, once. A context manager that releases the device or file at its end."""

    live = False
    """Whether frames come at their own pace, and are dropped if the loop is late."""
    dropped = 0
    """Frames of a live source that the loop did not take in time."""
    skipped = 0
    """Images of a folder that could not be read."""
    reconnects = 0
    """How often a live source was reopened after a loss, or because its frames were frozen or black."""
    note = ""
    """One line about what went wrong. It is complete when the iteration has ended."""
    failure: Exception | None = None
    """The error of one of several sources, without which the others continued."""
    details = ""
    """One line about the open source: size, rate, codec and the library that reads it. Empty if unknown."""

    def __init__(self, name: str, fps: float) -> None:
        self.name = name
        """Its name in messages, without credentials."""
        self.fps = fps
        """Frames a second as the source states them; 0 if it does not."""
        self._stopped = False
        self._finished = False
        self._segment = 0
        self._size: tuple[int, ...] = ()

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the end or `stop`. Raises SourceError if a live source is lost for good."""

    def stop(self) -> None:
        """End the iteration before its next frame. Safe in a signal handler."""
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    @property
    def state(self) -> State:
        """The state of the source, for a screen or a health check."""
        return "ended" if self._stopped or self._finished else "live"

    @property
    def problem(self) -> str:
        """What is wrong with a live source now, as text. Empty if nothing is."""
        return ""

    @property
    def repeated(self) -> int:
        """Frames of a live source that were exactly equal to the one before."""
        return 0

    def dropped_of(self, source: str) -> int:
        """Frames that the loop did not take in time, of the source of that name (`Frame.source`)."""
        return self.dropped

    def _update_segment(self, image: Image) -> None:
        """Begin a new segment if the frame differs in size from the one before."""
        self._segment += self._size not in ((), image.shape[:2])
        self._size = image.shape[:2]

    def close(self) -> None:
        """Release the device or file. It may be called twice."""
        self.stop()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
