"""Engines and programs over the doubles of the driver and of TensorRT, made once for all tests."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def engine_on_doubles(tmp_path_factory) -> Callable[..., Path]:
    """Return a function: head, network of `engine_folder.NETWORKS` -> path of an engine. Tests must not change it."""
    from doubles.gpu.engine_folder import NETWORKS, make_engine  # late: it imports PyTorch

    folder = tmp_path_factory.mktemp("engines")

    def of(head: str, network: str = "windowed") -> Path:
        path = folder / f"{head} {network}.engine"
        if not path.exists():
            make_engine(path, head, **NETWORKS[network])
        return path

    return of


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> str:
    """Return the path of a tiny model."""
    from doubles.tiny_artifact import tiny_model  # late: it needs onnx

    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    path.write_bytes(tiny_model())
    return str(path)


@pytest.fixture(scope="session")
def run_on_doubles() -> Callable[..., str]:
    """Return a function: program, arguments -> its output. It must succeed without output on stderr.

    The program begins with the names of `on_doubles`. Keywords are changes to its environment.
    """
    from doubles.gpu.pycuda_on_double import environment

    variables = environment()

    def run(text: str, *arguments: object, **changes: str) -> str:
        command = [
            sys.executable,
            "-c",
            f"from doubles.gpu.on_doubles import *\n{textwrap.dedent(text)}",
            *map(str, arguments),
        ]
        result = subprocess.run(
            command, env={**variables, **changes}, capture_output=True, encoding="utf-8", timeout=120, check=False
        )
        assert (result.returncode, result.stderr) == (0, ""), f"{result.stdout}\n{result.stderr}"
        return result.stdout

    return run
