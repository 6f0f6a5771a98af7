"""A file that is complete after each append, so that it can be read after a kill or on a full disk."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from iern.runtime.errors import OutputError

if sys.platform != "win32":
    import fcntl

STDOUT = Path("/dev/stdout")
"""The path that means the standard output of this process."""
CHUNK = 4096
"""Bytes that a pipe takes at once if it is ready."""
POLL_MS = 200
"""Milliseconds between two checks, while a pipe is full, whether the command is to end."""
PATIENCE_MS = 2000
"""Milliseconds for which a command that is to end waits for a reader that does not read."""


class AppendOnlyFile:
    """A file whose bytes reach the kernel with each `append`, so that the end of this process loses none.

    Until it is closed, no other AppendOnlyFile of any process can open the file.
    """

    def __init__(self, path: Path, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Create the folder and the file, or empty an existing file. A FIFO and STDOUT are not emptied.

        `interrupted` is asked while the reader of a pipe does not read: whether the command is to end. Raises
        OutputError if another program writes to the file, or none reads the FIFO, and OSError.
        """
        self._path, self._interrupted = path, interrupted
        self._file = FileIO(os.dup(1), "wb") if path == STDOUT else _open(path)
        self._is_pipe = not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        self._base = 0 if self._is_pipe else self._file.seek(0, os.SEEK_END)
        self.size = 0
        """Bytes that were appended."""

    def append(self, data: bytes) -> int:
        """Append `data` and return its offset.

        Raises OSError with the name of the file, such as on a full disk, and then appends nothing.
        """
        start, left = self.size, memoryview(data)
        try:
            while left:
                left = left[self._write_to_pipe(left) if self._is_pipe else self._file.write(left) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # a pipe cannot be cut back
                self._file.truncate(self._base + start)
                self._file.seek(self._base + start)
            error.filename = str(self._path)
            raise
        self.size += len(data)
        return start

    def _write_to_pipe(self, data: memoryview) -> int:
        """Write a part when there is room -> its length. Raises TimeoutError if the reader holds up the end."""
        if hasattr(select, "poll"):
            ready = select.poll()
            ready.register(self._file, select.POLLOUT)
            while not ready.poll(POLL_MS):
                if self._interrupted() and not ready.poll(PATIENCE_MS):
                    raise TimeoutError(errno.ETIMEDOUT, "its reader has stopped reading")
        return self._file.write(data[:CHUNK]) or 0  # None if there is no room after all

    def overwrite(self, at: int, data: bytes) -> None:
        """Replace existing bytes, which needs no space on the disk."""
        os.pwrite(self._file.fileno(), data, at)

    def close(self) -> None:
        """Write everything to the disk and close the file. May be called twice."""
        if not self._file.closed:
            with contextlib.suppress(OSError):  # a pipe has no disk
                os.fsync(self._file.fileno())
            self._file.close()


def refuse_if_in_use(path: Path) -> None:
    """Raise OutputError if an AppendOnlyFile of any process has the file open."""
    if path.is_file():
        with open(path, "ab", buffering=0) as file:
            _lock(file, path)


def _open(path: Path) -> FileIO:
    """The empty file, locked, or a FIFO that has a reader."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def open_as_it_is(name: str, flags: int) -> int:
        """Do not empty the file before it is locked, and do not wait until a FIFO has a reader."""
        return os.open(name, flags & ~os.O_TRUNC | getattr(os, "O_NONBLOCK", 0), 0o666)

    try:
        file = open(path, "wb", buffering=0, opener=open_as_it_is)  # noqa: SIM115 - it lives as long as its output
    except OSError as error:
        if error.errno == errno.ENXIO and path.is_fifo():
            raise OutputError(f"{path}: no program reads this FIFO; start the reader first") from error
        raise
    try:
        _lock(file, path)
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.truncate(0)
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: FileIO, path: Path) -> None:
    """Lock an ordinary file or a FIFO until it is closed. Raises OutputError if it is locked already."""
    if sys.platform == "win32" or stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"{path}: another program is writing to it; stop that program or choose another name"
        ) from error
    except OSError:  # this file system has no locks
        return
