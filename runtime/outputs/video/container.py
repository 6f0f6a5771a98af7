"""Video files of independent pictures. Each picture is written at once with its own time: a killed process loses none.

OpenCV's writer buffers 256 KiB, writes an MP4's index only at the end, and does not know when a frame was taken. Here
every picture, a JPEG or a key frame of VP8, is in the file as soon as it is known, and the file plays at any moment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from iern.runtime.system.append_only_file import AppendOnlyFile

USUAL_FPS = 15.0
"""If the rate is not known, a single picture is shown as long as at this one."""


class VideoContainer(ABC):
    """A video file that is being written. Times are seconds from the first picture, each later than the one before."""

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        """`fps` is the source's rate, 0 if it is not known. Raises OSError."""
        self.width = width
        self.height = height
        self._fps = fps
        self._file = AppendOnlyFile(path)

    @property
    def size(self) -> int:
        """Bytes until now."""
        return self._file.size

    def last_duration(self, previous: float) -> float:
        """Seconds for which the last picture is shown: as long as the `previous` one, if there is one (0: none)."""
        return previous or 1 / (self._fps or USUAL_FPS)

    @abstractmethod
    def add(self, picture: bytes, seconds: float) -> None:
        """Add a picture. Raises OSError, and then the file is as it was before."""

    @abstractmethod
    def finish(self) -> None:
        """Write what lets a player seek. Raises OSError, and then the file plays all the same."""

    def close(self) -> None:
        """Finish and close the file. Raises OSError if it cannot be finished."""
        try:
            self.finish()
        finally:
            self._file.close()
