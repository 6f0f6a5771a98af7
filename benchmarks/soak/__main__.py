"""Command: run the loop for long on a camera that keeps failing, and check its memory, threads and latency."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

from benchmarks import RESULTS
from benchmarks.common.camera_process import camera_process
from benchmarks.common.results import write_with_page
from benchmarks.soak.report import broken_limits, figures, markdown
from iern.runtime.system.arguments import Parser
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import refuse_conflicts

OUTPUT = RESULTS / "soak.json"
SAMPLE_SECONDS = 1.0
"""Seconds between two samples of the process."""
PROGRESS_SECONDS = 60

EXAMPLES = """\
examples:
  python -m benchmarks.soak                     an hour
  python -m benchmarks.soak --minutes 2         does it run? too short to check memory and drift; the page notes that

The loop is the command itself (python -m iern.runtime.webcam --headless --record --jsonl), in its own process. Its
memory, threads and file handles are read from /proc once a second, latencies and ages from its JSON lines. In each
round the camera plays, changes its size, is black, freezes, hangs, closes the connection and is down. At the end the
loop gets SIGTERM. It must exit with status 0 and leave complete files.

The command writes the figures as JSON, and a page beside it. The exit status is 1 if a limit is broken.
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parse(argv)
    refuse_conflicts({}, {"--json": options.json, "its page": options.json.with_suffix(".md")})
    results = soak(options.minutes, options.round, options.loop)
    page = write_with_page(options.json, results, markdown(results))
    print(page.read_text(encoding="utf-8"))
    print(f"wrote {options.json}\nwrote {page}")
    for limit in results["broken"]:
        print(f"broken: {limit}", file=sys.stderr)
    return 1 if results["broken"] else 0


def soak(minutes: float, seconds_a_round: float, more: Sequence[str] = ()) -> dict[str, Any]:
    """Run the loop for that time, with `more` arguments. Returns the content of soak.json: plain types only."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, camera(seconds_a_round) as url:
        lines, video = Path(folder, "answers.jsonl"), Path(folder, "recording.mp4")
        arguments = [sys.executable, "-m", "iern.runtime.webcam", "--headless", "--source", url]
        arguments += ["--jsonl", str(lines), "--record", str(video), *more]
        with open(Path(folder, "output"), "w+", encoding="utf-8") as output:
            loop = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT)
            try:
                samples = list(_process_samples(loop, 60 * minutes))
                early = loop.poll()
                status = _stopped(loop)
            finally:
                loop.kill()
                loop.wait()
            output.seek(0)
            printed = output.read()
        found = figures(samples, _analysed_frames(lines))
        ending = {"early": early is not None, "status": status, "said": printed.splitlines()[-12:]}
        megabytes = sum(path.stat().st_size for path in Path(folder).glob("recording*")) / 1e6
    results = {
        "machine": {"cores": cpu_budget(), "system": platform.platform(), "python": platform.python_version()},
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "minutes": minutes,
        "seconds_a_round": seconds_a_round,
        "ending": ending,
        "recorded_megabytes": megabytes,
        **found,
    }
    return {**results, "broken": broken_limits(results)}


@contextlib.contextmanager
def camera(seconds_a_round: float) -> Iterator[str]:
    """Run the failing camera in its own process, and yield its URL."""
    with camera_process("benchmarks.soak.camera", ["--round", str(seconds_a_round)]) as address:
        yield f"http://{address}/cam"


def _process_samples(loop: subprocess.Popen[bytes], seconds: float) -> Iterator[dict[str, float]]:
    """Sample the process until the time is over or the process has ended."""
    start = printed = time.monotonic()
    while (now := time.monotonic()) - start < seconds and loop.poll() is None:
        with contextlib.suppress(OSError):  # the process has just ended
            yield {"seconds": round(now - start, 2), **_usage(loop.pid)}
        if now - printed >= PROGRESS_SECONDS:
            printed = now
            print(f"{(now - start) / 60:.0f} of {seconds / 60:g} minutes", flush=True)
        time.sleep(SAMPLE_SECONDS)


def _usage(pid: int) -> dict[str, float]:
    """Megabytes of memory, threads, and file handles of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    memory, threads = (int(status.partition(f"{key}:")[2].split()[0]) for key in ("VmRSS", "Threads"))
    return {"memory": memory / 1024, "threads": threads, "handles": len(os.listdir(f"/proc/{pid}/fd"))}


def _stopped(loop: subprocess.Popen[bytes]) -> int | None:
    """Send SIGTERM and return the exit status; None if the process did not end."""
    loop.send_signal(signal.SIGTERM)
    try:
        return loop.wait(timeout=60)
    except subprocess.TimeoutExpired:
        return None


def _analysed_frames(lines: Path) -> list[dict[str, float]]:
    """Time, latency, age and number of faces of each frame that was analysed."""
    if not lines.exists():
        return []
    records = map(json.loads, lines.read_text(encoding="utf-8").splitlines())
    return [
        {
            "seconds": record["time"],
            "total": record["latency_ms"]["total"],
            "age": record["latency_ms"]["age"],
            "faces": len(record["faces"]),
        }
        for record in records
        if "latency_ms" in record
    ]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks.soak",
        description="Run the loop for long on a camera that keeps failing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=60, metavar="N", help="how long (default: 60)")
    add("--round", type=float, default=60, metavar="SECONDS", help="length of a round of failures (default: 60)")
    add("--json", type=Path, default=OUTPUT, metavar="FILE", help="default: benchmarks/results/soak.json")
    add("loop", nargs="*", metavar="-- ARGUMENT", help="more arguments for the loop, after --")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
