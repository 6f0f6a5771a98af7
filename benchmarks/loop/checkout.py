"""Another state of this repository, so that its loop can run beside this one: a checkout, or a commit of this clone."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

from benchmarks import ROOT
from iern.runtime.errors import IernError

LINKS = Path(".typecheck", "iern")
"""In a checkout: links to its packages under the names by which they are imported."""


def checkout_of(rival: str, folder: Path) -> Path:
    """A checkout's path, or a commit, which is unpacked into `folder` -> the root of the checkout. Raises IernError."""
    if Path(rival).is_dir():
        return Path(rival).resolve()
    archive, root = folder / "rival.tar", folder / "rival"
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", f"--output={archive}", rival]
    try:
        made = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    except OSError as error:
        raise IernError(
            f"git cannot be run ({error.strerror}); install it, or give the folder of a checkout"
        ) from error
    if made.returncode:
        raise IernError(
            f"--rival {rival}: is neither a folder nor a commit of this clone ({made.stderr.strip()}); clone the whole "
            "history, or give the folder of a checkout"
        )
    root.mkdir()
    with tarfile.open(archive) as file:
        file.extractall(root, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    archive.unlink()
    return root


def importing_from(root: Path, folder: Path) -> dict[str, str]:
    """Environment variables with which Python imports `iern` from a checkout. Links to it are made in `folder`.

    Raises IernError if Python imports it from elsewhere, or not at all.
    """
    links = folder / "packages"
    (links / "iern").mkdir(parents=True)
    for entry in (root / LINKS).glob("*"):
        (links / "iern" / entry.name).symlink_to(entry)
    if not (first := links / "iern" / "__init__.py").exists():
        first.touch()  # without it, Python prefers an `iern` that is installed and has it
    environment = {**os.environ, "PYTHONPATH": str(links)}
    program = "import iern.runtime.webcam as module; print(module.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    imported = found.stdout.strip()
    if found.returncode or not Path(imported).resolve().is_relative_to(root.resolve()):
        problem = found.stderr.strip().splitlines()[-1:] or [f"Python imports {imported}"]
        raise IernError(f"{root}: its loop cannot be imported ({problem[0]}); expected a checkout of this project")
    return environment


def description(root: Path) -> str:
    """The commit of a checkout, and whether it has changes; empty if it has no history."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    if not (root / ".git").exists():
        return ""
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False).stdout.strip()
