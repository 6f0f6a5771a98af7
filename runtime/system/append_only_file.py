"""A file that is complete after each append, so that it can be read after a kill or on a full disk."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
from collections.abc import Callable
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
        self._file = os.dup(1) if path == STDOUT else _open(path)
        self._is_pipe = not _is_ordinary(self._file)
        self._base = 0 if self._is_pipe else os.lseek(self._file, 0, os.SEEK_END)
        self.size = 0
        """Bytes that were appended."""

    def append(self, data: bytes) -> int:
        """Append `data` and return its offset.

        Raises OSError with the name of the file, such as on a full disk, and then appends nothing.
        """
        start, left = self.size, memoryview(data)
        try:
            while left:
                left = left[self._write_to_pipe(left) if self._is_pipe else os.write(self._file, left) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # a pipe cannot be cut back
                os.ftruncate(self._file, self._base + start)
                os.lseek(self._file, self._base + start, os.SEEK_SET)
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
        try:
            return os.write(self._file, data[:CHUNK])
        except BlockingIOError:  # there is no room after all
            return 0

    def overwrite(self, at: int, data: bytes) -> None:
        """Replace existing bytes, which needs no space on the disk."""
        os.pwrite(self._file, data, at)

    def close(self) -> None:
        """Write everything to the disk and close the file. May be called twice."""
        handle, self._file = self._file, -1
        if handle != -1:
            with contextlib.suppress(OSError):  # a pipe has no disk
                os.fsync(handle)
            os.close(handle)


def refuse_if_in_use(path: Path) -> None:
    """Raise OutputError if an AppendOnlyFile of any process has the file open."""
    if path.is_file():
        with open(path, "ab", buffering=0) as file:
            _lock(file.fileno(), path)


def _open(path: Path) -> int:
    """The handle of the empty file, locked, or of a FIFO that has a reader."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not `open(path, "wb")`, which would empty the file before it is locked, and wait until a FIFO has a reader.
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO and path.is_fifo():
            raise OutputError(f"{path}: no program reads this FIFO; start the reader first") from error
        raise
    try:
        _lock(handle, path)
        if _is_ordinary(handle):
            os.ftruncate(handle, 0)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _is_ordinary(handle: int) -> bool:
    """Whether it is a file on a disk, and no pipe, device or socket."""
    return stat.S_ISREG(os.fstat(handle).st_mode)


def _lock(handle: int, path: Path) -> None:
    """Lock an ordinary file or a FIFO until it is closed. Raises OutputError if it is locked already."""
    if sys.platform == "win32" or stat.S_ISCHR(os.fstat(handle).st_mode):
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"{path}: another program is writing to it; stop that program or choose another name"
        ) from error
    except OSError:  # this file system has no locks
        return
