"""Who takes part: this checkout in its variants, another checkout, the loop as published, and installed packages."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import ROOT, environment
from benchmarks.loop.checkout import checkout_of, description, importing_from
from benchmarks.loop.clips import FPS
from benchmarks.loop.contestant import Contestant
from benchmarks.loop.packages import PACKAGES
from iern.runtime.errors import IernError

OURS, RIVAL, PUBLISHED = "ours", "rival", "published"
CHECKPOINT = ROOT / "runtime" / "models" / "iern_edge.pt"
START_SECONDS = 60
"""Longest time that an interpreter may take to look for a package."""

VARIANTS = {
    "ours, float32": ("--precision", "fp32"),
    "ours, 8 bits": ("--precision", "int8"),
    "ours, every frame searched": ("--search", "every-frame"),
}
"""Name -> arguments of the loop. A variant whose first option the loop does not have is left out."""


def our_loops(variants: Mapping[str, Sequence[str]]) -> list[Contestant]:
    """The loop of this checkout with its defaults, then the `variants`."""
    commit = description(ROOT)
    first = _webcam(OURS, f"this checkout{f' ({commit})' if commit else ''}", environment(), ())
    return [
        first,
        *(_webcam(name, f"with `{shlex.join(more)}`", environment(), more) for name, more in variants.items()),
    ]


def usual_variants() -> dict[str, Sequence[str]]:
    """Those of VARIANTS that the loop of this checkout can run."""
    command = [sys.executable, "-m", "iern.runtime.webcam", "--help"]
    shown = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, encoding="utf-8", check=True)
    words = set(shown.stdout.replace("[", " ").split())
    return {name: arguments for name, arguments in VARIANTS.items() if arguments[0] in words}


def rival_loop(rival: str, folder: Path) -> Contestant:
    """The loop of a checkout, or of a commit of this clone, with its defaults. Raises IernError."""
    root = checkout_of(rival, folder)
    name = description(root) or rival
    return _webcam(RIVAL, f"the loop at `{name}`", importing_from(root, folder), ())


def published_loop() -> Contestant:
    """The published way: a full search in each frame, and PyTorch, one stratum after another."""
    program = [sys.executable, "-m", "benchmarks.loop.published", "--checkpoint", str(CHECKPOINT)]
    how = "a full search in each frame (OpenCV), then PyTorch, one stratum after another"
    return Contestant(PUBLISHED, how, _started_by(program), _with_benchmarks())


def package_loops(interpreters: Sequence[Path]) -> Iterator[Contestant]:
    """Each package by its own loop, in the first interpreter that has it. Those that none has are printed."""
    for package in PACKAGES:
        for python in interpreters:
            program = [str(python), "-m", "benchmarks.loop.packages", package]
            version = _version(program)
            if version:
                how = f"version {version}, its own loop: its detector and its model, by its public interface"
                yield Contestant(package, how, _started_by(program), _with_benchmarks())
                break
        else:
            print(f"not measured: {package}: not installed; pip install {package}, and pass its --package-python")


def parse_variant(text: str) -> tuple[str, tuple[str, ...]]:
    """`NAME: ARGUMENTS` of the loop -> both. Raises ValueError."""
    name, colon, arguments = text.partition(":")
    if not (colon and name.strip() and arguments.strip()):
        raise ValueError(f"expected a name, a colon and arguments of the loop, found {text!r}")
    return name.strip(), tuple(shlex.split(arguments))


def _webcam(name: str, how: str, variables: Mapping[str, str], more: Sequence[str]) -> Contestant:
    def command(size: str, records: Path) -> list[str]:
        frames = ["--source", "-", "--stdin-format", f"{size}:bgr24", "--fps", str(FPS)]
        return [sys.executable, "-m", "iern.runtime.webcam", "--headless", *frames, "--jsonl", str(records), *more]

    return Contestant(name, how, command, variables)


def _started_by(program: Sequence[str]) -> Callable[[str, Path], list[str]]:
    return lambda size, records: [*program, size, str(records)]


def _with_benchmarks() -> dict[str, str]:
    """The environment of a program that imports from this folder, in any interpreter."""
    variables = environment()
    paths = [str(ROOT), variables.get("PYTHONPATH", "")]
    return {**variables, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def _version(program: Sequence[str]) -> str | None:
    """What the program prints last; None if it fails."""
    try:
        shown = subprocess.run(
            program, env=_with_benchmarks(), capture_output=True, encoding="utf-8", timeout=START_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip().splitlines()[-1]


def refuse_equal_names(contestants: Sequence[Contestant]) -> None:
    """Raise IernError if two contestants have one name."""
    names = [contestant.name for contestant in contestants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise IernError(f"two contestants are called {', '.join(twice)}; give the variant another name")
