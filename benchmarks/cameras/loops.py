"""Runs the loop on several cameras, in one process or in one a camera, and measures what it does in a while."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import environment
from iern.runtime.errors import IernError

START_SECONDS = 120.0
"""Longest wait for the first record of every camera."""
STOP_SECONDS = 30.0
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def measure(urls: Sequence[str], together: bool, seconds: float, warm_up: float, folder: Path) -> dict[str, Any]:
    """Play the cameras for that time, in one process or in one each -> figures in plain types.

    Raises IernError if a loop does not start, or ends early.
    """
    groups = [urls] if together else [[url] for url in urls]
    files = [folder / f"{number}.jsonl" for number in range(len(groups))]
    with contextlib.ExitStack() as stack:
        loops = [stack.enter_context(_loop(group, file)) for group, file in zip(groups, files, strict=True)]
        _wait_for_records(loops, files, urls)
        time.sleep(warm_up)
        began, before = time.monotonic(), [_usage(loop.pid) for loop in loops]
        sizes = [file.stat().st_size for file in files]
        time.sleep(seconds)
        passed, after = time.monotonic() - began, [_usage(loop.pid) for loop in loops]
        if any(loop.poll() is not None for loop in loops):
            raise IernError("a loop has ended during the measurement; see what it printed")
        records = [record for file, size in zip(files, sizes, strict=True) for record in _records(file, size)]
    frames = {url: [record["frame"] for record in records if record["name"] == url] for url in urls}
    came = {url: numbers[-1] - numbers[0] + 1 for url, numbers in frames.items() if numbers}
    analysed = {url: len(numbers) for url, numbers in frames.items()}
    return {
        "cameras": len(urls),
        "processes": len(loops),
        "seconds": passed,
        "fps": [analysed[url] / passed for url in urls],
        "dropped": [came.get(url, 0) - analysed[url] for url in urls],
        "age_ms": sorted(record["latency_ms"]["age"] for record in records),
        "cpu_seconds_per_second_of_video": sum(b[0] - a[0] for a, b in zip(before, after, strict=True))
        / (passed * len(urls)),
        "memory_mb": sum(usage[1] for usage in after),
    }


@contextlib.contextmanager
def _loop(urls: Sequence[str], records: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command itself, until the block ends."""
    sources = [word for url in urls for word in ("--source", url)]
    command = [sys.executable, "-m", "iern.runtime.webcam", "--headless", *sources, "--jsonl", str(records)]
    with open(records.with_suffix(".log"), "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment(), stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)
    finally:
        process.kill()
        process.wait()


def _wait_for_records(loops: Sequence[subprocess.Popen[bytes]], files: Sequence[Path], urls: Sequence[str]) -> None:
    """Wait until there is a record of each camera."""
    deadline = time.monotonic() + START_SECONDS
    while {record["name"] for file in files for record in _records(file)} < set(urls):
        if time.monotonic() > deadline or any(loop.poll() is not None for loop in loops):
            printed = "".join(file.with_suffix(".log").read_text(encoding="utf-8") for file in files)
            raise IernError(f"not every camera gave a record within {START_SECONDS:g} s; the loops printed: {printed}")
        time.sleep(0.2)


def _records(file: Path, since: int = 0) -> list[dict[str, Any]]:
    """The whole records in the file after so many bytes."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_bytes()[since:].rpartition(b"\n")[0].splitlines()]


def _usage(pid: int) -> tuple[float, float]:
    """Seconds of the processor, and megabytes of memory, of a process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    memory = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    return (int(fields[11]) + int(fields[12])) / TICKS, memory
