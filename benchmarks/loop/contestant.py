"""A contestant: a program that reads raw frames from stdin and writes a JSON record of each, frame after frame."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from iern.runtime.errors import IernError
from iern.runtime.imaging.images import Image

PATIENCE = 600.0
"""Seconds without an answer after which a contestant counts as stuck. On a busy machine some take minutes to start."""
PIPE_BYTES = 1 << 20
"""Size of the pipe to a contestant: frames pass in a few large pieces, and the copying costs all alike."""
CPU_CLOCK = 2
"""Linux: the clock of the processor time of a process, in the low bits of a clock's number."""


@dataclass(frozen=True)
class Contestant:
    """How to start a program that takes part."""

    name: str
    how: str
    """What it does, for the page."""
    command: Callable[[str, Path], list[str]]
    """The size of a frame, as 640x480, and the file for its records -> the command."""
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """What came back for a frame."""

    milliseconds: float
    """From the first byte of the frame to the end of its record."""
    faces: int
    stages: Mapping[str, float]
    """Milliseconds by stage, as the contestant measured them; `total` is always among them."""


class Running:
    """A contestant in its own process: `running(frame)` -> Answer. A context manager that ends it."""

    def __init__(self, contestant: Contestant, size: tuple[int, int], folder: Path) -> None:
        """Start it, for frames of that width and height. `folder` is an empty one, for its files."""
        self.name = contestant.name
        records = folder / "records.jsonl"
        os.mkfifo(records)
        self._records = os.open(records, os.O_RDONLY | os.O_NONBLOCK)  # first: the writer needs a reader
        self._unread = b""
        self._log = folder / "output.txt"
        command = contestant.command("x".join(map(str, size)), records)
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder, env=contestant.environment
            )
        assert self._process.stdin
        self._frames = self._process.stdin
        with contextlib.suppress(OSError):  # the system may allow less
            fcntl.fcntl(self._frames, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def __call__(self, frame: Image) -> Answer:
        """Pass a frame and wait for its record. Raises IernError if there is none."""
        start = time.perf_counter()
        try:
            self._frames.write(frame.data)
            self._frames.flush()
        except OSError as error:
            raise self._ended() from error
        record = self._next_record()
        milliseconds = 1000 * (time.perf_counter() - start)
        return Answer(milliseconds, len(record["faces"]), record["latency_ms"])

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all its threads until now."""
        return time.clock_gettime(~self._process.pid << 3 | CPU_CLOCK)

    def _next_record(self) -> Mapping[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._unread:
            if self._process.poll() is not None:
                raise self._ended()
            if time.monotonic() > deadline:
                raise IernError(f"{self.name}: no answer for {PATIENCE:g} s; leave it out, or see what it waits for")
            if select.select([self._records], [], [], 1.0)[0]:
                part = os.read(self._records, 1 << 16)
                self._unread += part
                if not part:  # nobody has opened the other end yet
                    time.sleep(0.01)
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def _ended(self) -> IernError:
        status = self._process.wait()  # first: until then it may still print
        last = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        return IernError(
            f"{self.name}: ended with status {status} before it answered ({''.join(last)}); run its "
            "command by hand, or leave it out"
        )

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._frames.close()
        os.close(self._records)
