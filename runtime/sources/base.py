"""Where frames come from, and the finite sources: image files and video files give every frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from iern.runtime.imaging.images import Image

State = Literal["live", "stalled", "black", "reconnecting", "ended"]
"""`stalled`: no new picture, though the connection stands; `reconnecting`: there is none."""


@dataclass(frozen=True)
class Frame:
    """One picture of a source."""

    image: Image
    """(height, width, 3) uint8 BGR."""
    time: float
    """seconds: the position in a video file, the place in a folder (one image a second), or since a live start."""
    index: int
    """Counts from 0; the gaps of a live source are the frames it dropped."""
    name: str
    """The image file, or the source."""
    captured: float
    """`time.monotonic()` when the frame was decoded, so that its age can be told."""
    segment: int = 0
    """Counts up with every reconnect, change of size, and leap of a video's own clock: what is recorded in one piece
    must not span two."""


class Source(ABC):
    """Frames in order, once through. A context manager: leaving it releases the device or file."""

    live = False
    """Whether frames come at their own pace and late ones are dropped."""
    dropped = 0
    """Frames of a live source that nobody took in time."""
    skipped = 0
    """Images of a folder that could not be read."""
    reconnects = 0
    """How often a live source was lost, or gave nothing new, and was opened anew."""
    note = ""
    """One line about what was not as it should be, known when the iteration has ended."""
    details = ""
    """One line about what was really got: size, rate, codec, and which library reads it; empty where it goes unsaid."""

    def __init__(self, name: str, fps: float) -> None:
        self.name = name
        """What to call it in messages: never with credentials."""
        self.fps = fps
        """Frames a second as the source states them, 0 where it does not."""
        self._stopped = False
        self._finished = False
        self._segment = 0
        self._size: tuple[int, ...] = ()

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the end or `stop`; raises SourceError where a live source is lost."""

    def stop(self) -> None:
        """Let the iteration end before its next frame; harmless in a signal handler."""
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    @property
    def state(self) -> State:
        """How the source is, for a screen or a health check."""
        return "ended" if self._stopped or self._finished else "live"

    @property
    def trouble(self) -> str:
        """What is wrong with a live source now, in words; empty where nothing is."""
        return ""

    @property
    def repeated(self) -> int:
        """Frames of a live source that equalled the one before to the last bit."""
        return 0

    def _note_size(self, image: Image) -> None:
        """Begin a new segment where the picture has another size than the one before."""
        self._segment += self._size not in ((), image.shape[:2])
        self._size = image.shape[:2]

    def close(self) -> None:
        """Release what the source holds; may be called twice."""
        self.stop()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
