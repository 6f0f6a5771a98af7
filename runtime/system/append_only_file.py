"""A file that only grows, and is whole after each step: what a killed process or a full disk leaves can be read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class AppendOnlyFile:
    """Bytes that reach the kernel with each `append`, so that the end of this process takes none of them along."""

    def __init__(self, path: Path) -> None:
        """Makes the folder, and empties a file that is there. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - it lives as long as its output
        self.size = 0

    def append(self, data: bytes) -> int:
        """Add all of `data` and return where it begins; raises OSError, on a full disk, with nothing of it added."""
        start, left = self.size, memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            with contextlib.suppress(OSError):  # a pipe cannot be cut back
                self._file.truncate(start)
                self._file.seek(start)
            raise
        self.size += len(data)
        return start

    def overwrite(self, at: int, data: bytes) -> None:
        """Replace bytes that are there already, which needs no space on the disk."""
        os.pwrite(self._file.fileno(), data, at)

    def close(self) -> None:
        """Bring everything to the disk and close; may be called twice."""
        if not self._file.closed:
            with contextlib.suppress(OSError):  # a pipe has no disk
                os.fsync(self._file.fileno())
            self._file.close()
