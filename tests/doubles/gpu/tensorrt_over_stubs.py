"""TensorRT's Python bindings without TensorRT: wheels from PyPI over the stubs in tests/doubles/gpu/tensorrt_stubs."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from repository import ROOT

BINDINGS = {
    "10.3.0": "tensorrt_cu12_bindings",
    "10.7.0": "tensorrt_cu12_bindings",
    "10.9.0.34": "tensorrt_cu12_bindings",
    "10.13.3.9": "tensorrt_cu12_bindings",
    "10.16.1.11": "tensorrt_cu13_bindings",
    "11.0.0.114": "tensorrt_cu13_bindings",
    "11.4.0.106": "tensorrt_cu13_bindings",
}
"""Version -> its wheel: a few MB of bindings, without the libraries that they require."""
BINDINGS_8 = {"8.6.1": "tensorrt_bindings"}
"""The same of TensorRT 8, which is built for in another way. It has wheels up to Python 3.11."""
CACHE = ROOT / "build" / "tensorrt_bindings"
FOLDER = ROOT / "tests" / "doubles" / "gpu" / "tensorrt_stubs"
COMPILER = shutil.which("cc") or shutil.which("gcc")
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")


def need_stubs() -> None:
    """Skip the test if the stubs cannot be built."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("the stubs work only on x86-64 Linux")
    if COMPILER is None:
        pytest.skip("no C compiler is installed; the stubs need one")


def compile_stubs(folder: Path) -> None:
    """Compile one library, with a link for every name that a version of the bindings looks for."""
    library = folder / "stubs.so"
    command = [str(COMPILER), "-std=c11", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    result = subprocess.run(
        [*command, FOLDER / "stubs.c", "-o", library], capture_output=True, encoding="utf-8", check=False
    )
    assert result.returncode == 0, result.stderr
    for name in LIBRARIES:
        for major in (8, 10, 11):
            (folder / f"lib{name}.so.{major}").symlink_to(library.name)


def installed_bindings(version: str) -> Path:
    """Return the folder to import `tensorrt_bindings` from. pip fills it once; without a wheel the test is skipped."""
    target = CACHE / f"{version}-{sys.implementation.cache_tag}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / f"{target.name}.lock"):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                install(f"{(BINDINGS | BINDINGS_8)[version]}=={version}", Path(folder) / "new")
                (Path(folder) / "new").rename(target)
    return target


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time run the block: pytest-xdist runs several."""
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def install(requirement: str, target: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        pytest.skip("pip is not installed")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-input"]
    options = ["--retries=1", "--timeout=20", "--no-deps", "--only-binary=:all:", "--target", str(target)]
    result = subprocess.run([*command, *options, requirement], capture_output=True, encoding="utf-8", check=False)
    if result.returncode == 0:
        return
    offered = re.search(r"from versions: (.*?)\)", result.stderr)
    if offered and offered[1] == "none":
        pytest.skip("the package registry cannot be reached")
    newest = (3, 11) if requirement.endswith(tuple(BINDINGS_8)) else (3, 12)
    if offered and sys.version_info[:2] > newest:  # up to that one, each version that is listed here has a wheel
        pytest.skip(f"{requirement} has no wheel for Python {sys.version_info[0]}.{sys.version_info[1]}")
    raise AssertionError(result.stderr)


def run_over_stubs(version: str, libraries: Path, program: str, *arguments: str | Path) -> Any:
    """Run a program of tests/doubles/gpu/tensorrt_stubs in a separate process -> the JSON that it prints."""
    first = {"LD_LIBRARY_PATH": libraries, "PYTHONPATH": installed_bindings(version)}
    environment = os.environ | {
        name: os.pathsep.join(filter(None, [str(path), os.environ.get(name)])) for name, path in first.items()
    }
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", FOLDER / program, *arguments],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)
