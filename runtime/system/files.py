"""Files that are complete or absent: they are written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from iern.runtime.errors import OutputError, one_line

MORE_SPACE = "free some space or choose another place"
REMEDIES = {
    errno.ENOSPC: MORE_SPACE,
    errno.EDQUOT: MORE_SPACE,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) or choose another place",
    errno.EPIPE: "start its reader again",
    errno.ETIMEDOUT: "check its reader",
}
"""What to do if a file cannot be written, by the number of the error. For the others: choose another place."""


def why_not_written(error: OSError) -> str:
    """Why a file was not written and what to do, such as `cannot be written (File too large); choose another place`."""
    remedy = REMEDIES.get(error.errno or 0, "choose another place")
    return f"cannot be written ({error.strerror or one_line(error)}); {remedy}"


@contextlib.contextmanager
def write_errors(target: Path | str, state: str = "") -> Iterator[None]:
    """Turn an OSError of the block into an OutputError that names `target` and the remedy, and ends in `state`.

    An error of another file stays as it is: one that names a file which is not in the folder of `target` or below it.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str):
            named, own = Path(os.path.abspath(error.filename)), Path(os.path.abspath(target))
            if not (named.is_relative_to(own.parent) or own.is_relative_to(named)):
                raise
        raise OutputError(f"{target}: {why_not_written(error)}{state}") from error


@contextlib.contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """A temporary path in the folder of `target`. It replaces `target` when the block ends without an exception.

    On any exception, also KeyboardInterrupt, the temporary file is removed and an older `target` stays as it was. The
    temporary name keeps the suffix of `target`, because encoders choose their format by it. Raises OutputError if the
    file cannot be written, also by the block, or if `target` is a folder, a device or a FIFO.
    """
    target = Path(target)
    with write_errors(target, "; an older file is unchanged"):
        if target.exists() and not target.is_file():
            raise OutputError(f"{target}: is not a file, and would be replaced by one; choose another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp makes 0600; a model or figure is an ordinary file
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def is_text(name: str) -> bool:
    """Whether the name of a file is text. Python keeps bytes that are none as surrogates, which C libraries refuse."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def cache_folder() -> Path:
    """The user's folder for files that can be made again: `iern` in $XDG_CACHE_HOME, or where the system keeps them.

    That is ~/.cache, on macOS ~/Library/Caches, and on Windows %LOCALAPPDATA%. Raises RuntimeError without a home.
    """
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "iern"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "iern"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "iern"
    return Path.home() / ".cache" / "iern"


def write_text(target: Path | str, text: str) -> None:
    """Write UTF-8 text completely or not at all. Raises OutputError if it cannot be written."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
