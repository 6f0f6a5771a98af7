"""Refuses a command whose output would overwrite one of its inputs or another output, before anything is opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from iern.runtime.errors import OutputError

NamedPaths = Mapping[str, Path | Iterable[Path] | None]
"""The name of an option or argument -> its path or paths. None if it is not given."""

Identity = tuple[object, ...]
"""Equal for two paths of one file. Empty for a device, such as a terminal or /dev/null."""


def refuse_conflicts(inputs: NamedPaths, outputs: NamedPaths) -> None:
    """Raise OutputError if an output is an input or another output, or lies inside a folder that is an output.

    Files that exist are compared by device and inode, so that links and other spellings are found. Others are compared
    by their resolved names. Paths under one name are not compared with each other. If no output exists yet, the many
    paths of one input, such as the images of a folder, are not looked at.
    """
    written = _written(outputs)
    exists = any(os.path.exists(path) for _, path in written.values())
    for name, given in inputs.items():
        for path in _paths(given) if exists or isinstance(given, Path) else ():
            option, output = written.get(identify(path), ("", path))
            if option:
                which = name if path == output else f"{name} ({path})"
                raise OutputError(f"{output}: {option} would overwrite {which}; choose another name")


def identify(path: Path) -> Identity:
    """What the path is: device and inode if it exists; otherwise those of its last folder that exists, and the rest."""
    try:
        found = path.stat()
        return () if stat.S_ISCHR(found.st_mode) else (found.st_dev, found.st_ino)
    except OSError:
        resolved = Path(os.path.realpath(path))  # of a broken link: the file that it would make
    folder = next(parent for parent in resolved.parents if os.path.exists(parent))
    found, rest = folder.stat(), resolved.relative_to(folder).parts
    return found.st_dev, found.st_ino, *(map(str.casefold, rest) if _ignores_case(folder) else rest)


def _written(outputs: NamedPaths) -> dict[Identity, tuple[str, Path]]:
    """Identity -> name and path of each output. Raises OutputError if two of them are the same or one is in another."""
    written: dict[Identity, tuple[str, Path]] = {}
    for name, given in outputs.items():
        for path in _paths(given):
            if identity := identify(path):
                other, _ = written.setdefault(identity, (name, path))
                if other != name:
                    raise OutputError(f"{path}: {other} and {name} would write the same file; rename one of them")
    for name, path in written.values():
        for folder in Path(os.path.realpath(path)).parents:
            other, _ = written.get(identify(folder), (name, path))
            if other != name:
                raise OutputError(f"{path}: {name} would be inside {folder}, which {other} writes; move one of them")
    return written


def _paths(given: Path | Iterable[Path] | None) -> Iterable[Path]:
    if given is None:
        return ()
    return (given,) if isinstance(given, Path) else given


def _ignores_case(folder: Path) -> bool:
    """Whether the folder can be found under its name in other letters. Some file systems ignore case."""
    other = folder.parent / folder.name.swapcase()
    return other.name != folder.name and os.path.exists(other) and other.samefile(folder)
