"""The repository for its own tests: its folders, its files, and their syntax trees."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it to Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "tests" / "data" / "photos"
PACKAGES = ("train", "export", "runtime", "cpp_ext")
"""The folders that are installed, as `iern.<folder>`."""
INSTALLED_ELSEWHERE = {"runtime/package": "iern", "benchmarks/audit": "iern/audit"}
"""Folder -> where it is installed instead."""
CODE = (*PACKAGES, "benchmarks")
"""The folders of code, without the tests."""


def python_files(*folders: str) -> list[Path]:
    """Every .py file under the named top-level folders, in a stable order."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def relative(path: Path) -> str:
    """`path` relative to the repository's root, with slashes."""
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a source file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, with the dotted name of its function, such as `torch.load`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(path: Path, at_run_time: bool = False) -> set[str]:
    """Dotted names that a file imports anywhere: `numpy`, or `iern.runtime.x` for `from iern.runtime import x`.

    Imports in function bodies count, and those in type-checking blocks unless `at_run_time`. There are no relative
    imports, because ruff's TID252 forbids them.
    """
    names, unseen = set(), set()
    for node in ast.walk(tree(path)):  # parents come before their children
        if at_run_time and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            unseen |= set(ast.walk(node))
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def installed_path(path: Path) -> str | None:
    """`train/fit.py` -> `iern/train/fit.py`, where a wheel has it: see setup.py. None if it is not installed."""
    name = relative(path)
    for folder, package in INSTALLED_ELSEWHERE.items():
        if name.startswith(f"{folder}/"):
            return f"{package}/{name.removeprefix(f'{folder}/')}"
    return f"iern/{name}" if name.split("/")[0] in PACKAGES else None


def modules_of(folder: str) -> list[str]:
    """Import names of every module under a package's folder that can be imported without being run."""
    paths = [path for path in python_files(folder) if not path.name.startswith("_") and path.parent.name != "media"]
    return [str(installed_path(path)).removesuffix(".py").replace("/", ".") for path in paths]


def top_level(dotted: set[str]) -> set[str]:
    """The first part of each dotted name."""
    return {name.split(".")[0] for name in dotted}


@functools.cache
def owners_of_modules() -> dict[str, set[str]]:
    """Top-level import name -> names of the installed distributions that contain it, as pip spells them."""
    owners = importlib.metadata.packages_distributions()
    return {module: {canonicalize_name(name) for name in names} for module, names in owners.items()}


def with_their_needs(distributions: set[str]) -> set[str]:
    """The distributions and everything that they need in turn, without extras, if installed. Canonical names."""
    wanted, found = list(distributions), set()
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found.add(name)
        # Only one wheel of an exclusive pair is installed.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            needs = [Requirement(text) for text in importlib.metadata.requires(name) or []]
            wanted += [
                canonicalize_name(need.name)
                for need in needs
                if need.marker is None or need.marker.evaluate({"extra": ""})
            ]
    return found


def tracked_files() -> list[Path]:
    """The files of a clone, and those about to be added. Skips the test outside a git checkout."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return sorted(path for name in listing.split("\0") if name and (path := ROOT / name).is_file())


def build_wheel(folder: Path) -> Path:
    """The wheel built in `folder` from the tracked files only, as in a fresh clone, without a network."""
    source = folder / "source"
    for path in tracked_files():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    build = ("-m", "pip", "wheel", source, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    result = subprocess.run([sys.executable, *build], capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
    (built,) = folder.glob("*.whl")
    return built


def pyproject() -> dict[str, Any]:
    """pyproject.toml, parsed."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
