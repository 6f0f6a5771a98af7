"""The files of a folder and its sub-folders, in the order of their names."""

from __future__ import annotations

import os
from pathlib import Path

from iern.runtime.errors import SourceError


def files_below(folder: Path) -> list[Path]:
    """Folder -> its files and those of all sub-folders, sorted by their path in it.

    Hidden files and folders are left out. Links to folders are not followed, so that a link to a folder above ends
    nothing in a circle. Raises SourceError if a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise SourceError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions") from error

    found: list[Path] = []
    for here, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(here, name) for name in files if not name.startswith(".")]
    return sorted((file for file in found if file.is_file()), key=lambda file: file.relative_to(folder).parts)
