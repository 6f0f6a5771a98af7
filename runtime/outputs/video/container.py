"""Video files of pictures that stand alone, each written at once with its own time: a killed process loses none.

OpenCV's writer keeps 256 KiB to itself, an MP4's index until the end, and knows no times. Here every picture, a JPEG
or a key frame of VP8, goes to the file when it is there, and what is there can be played at any moment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from iern.runtime.system.append_only_file import AppendOnlyFile

USUAL_FPS = 15.0
"""A single picture without a rate stands as long as at this one."""


class VideoContainer(ABC):
    """A video file under way. Times are seconds from the first picture, each later than the one before."""

    left_out = 0
    """Pictures that the format has no place for."""

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        """`fps` is the source's rate, 0 where it is not known. Raises OSError."""
        self.width = width
        self.height = height
        self.fps = fps
        self._file = AppendOnlyFile(path)

    @property
    def size(self) -> int:
        """Bytes until now."""
        return self._file.size

    def stand_of_the_last(self, before: float) -> float:
        """Seconds that the last picture is shown: as long as the one before it, where there is one."""
        return before or 1 / (self.fps or USUAL_FPS)

    @abstractmethod
    def add(self, picture: bytes, seconds: float) -> None:
        """One more picture; raises OSError, with the file as it was."""

    @abstractmethod
    def finish(self) -> None:
        """Write what lets a player seek; raises OSError, and the file plays all the same."""

    def close(self) -> None:
        """Finish and close; raises OSError where the first does."""
        try:
            self.finish()
        finally:
            self._file.close()
