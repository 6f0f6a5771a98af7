"""The process of a camera that a benchmark plays to the loop."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence

from benchmarks import ROOT, environment


@contextlib.contextmanager
def camera_process(module: str, arguments: Sequence[str]) -> Iterator[str]:
    """Run a module that prints the port where it listens, and yield host:port. The process is killed at the end."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, encoding="utf-8")
    try:
        assert process.stdout
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.communicate()
