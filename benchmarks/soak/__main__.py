"""Command: does the loop hold out? It watches a camera that keeps failing, and is watched from outside."""

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

from benchmarks import RESULTS, ROOT, environment
from benchmarks.soak.report import broken_limits, figures, markdown
from iern.runtime.errors import IernError
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.files import write_text

OUTPUT = RESULTS / "soak.json"
EVERY = 1.0
"""Seconds between two looks at the process."""

EXAMPLES = """\
examples:
  python -m benchmarks.soak                     an hour
  python -m benchmarks.soak --minutes 2         does it run? too short to judge memory and drift, and says so

The loop is the command itself (python -m iern.runtime.webcam --headless --record --jsonl), in a process of its own; its
memory, threads and file handles are read from /proc once a second, latencies and ages from its JSON lines. The camera
plays, changes its size, is black, freezes, hangs, closes the connection and is down, round after round. At the end the
loop gets SIGTERM, and must leave with status 0 and whole files.

Written: the figures as JSON, and a page beside it. Exit status 1 where a limit is broken.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parse(argv)
    try:
        record = soak(options.minutes, options.round, options.loop)
    except IernError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    write_text(options.json, json.dumps(record, indent=1) + "\n")
    page = options.json.with_suffix(".md")
    write_text(page, markdown(record))
    print(page.read_text(encoding="utf-8"))
    print(f"wrote {options.json}\nwrote {page}")
    for limit in record["broken"]:
        print(f"broken: {limit}", file=sys.stderr)
    return 1 if record["broken"] else 0


def soak(minutes: float, seconds_a_round: float, more: Sequence[str] = ()) -> dict[str, Any]:
    """Let the loop run so long, with `more` arguments -> what soak.json holds: plain types only."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, camera(seconds_a_round) as url:
        lines, video = Path(folder, "answers.jsonl"), Path(folder, "recording.avi")
        command = [sys.executable, "-m", "iern.runtime.webcam", "--headless", "--source", url]
        command += ["--jsonl", str(lines), "--record", str(video), *more]
        with open(Path(folder, "said"), "w+", encoding="utf-8") as said:
            loop = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
            try:
                samples = list(_watched(loop, 60 * minutes))
                early = loop.poll()
                status = _ended(loop)
            finally:
                loop.kill()
                loop.wait()
            said.seek(0)
            words = said.read()
        found = figures(samples, _answers(lines))
        ending = {"early": early is not None, "status": status, "said": words.splitlines()[-12:]}
        megabytes = sum(path.stat().st_size for path in Path(folder).glob("recording*")) / 1e6
    record = {
        "machine": {"cores": cpu_budget(), "system": platform.platform(), "python": platform.python_version()},
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "minutes": minutes,
        "seconds_a_round": seconds_a_round,
        "ending": ending,
        "recorded_megabytes": megabytes,
        **found,
    }
    return {**record, "broken": broken_limits(record)}


@contextlib.contextmanager
def camera(seconds_a_round: float) -> Iterator[str]:
    """The failing camera in a process of its own; yields its URL."""
    command = [sys.executable, "-m", "benchmarks.soak.camera", "--round", str(seconds_a_round)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, encoding="utf-8")
    try:
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/cam"
    finally:
        process.kill()
        process.communicate()


def _watched(loop: subprocess.Popen[bytes], seconds: float) -> Iterator[dict[str, float]]:
    """Looks at the process, until the time is over or the process is."""
    start = told = time.monotonic()
    while (now := time.monotonic()) - start < seconds and loop.poll() is None:
        with contextlib.suppress(OSError):  # it ended in between
            yield {"seconds": round(now - start, 2), **_look(loop.pid)}
        if now - told >= 60:
            told = now
            print(f"{(now - start) / 60:.0f} of {seconds / 60:g} minutes", flush=True)
        time.sleep(EVERY)


def _look(pid: int) -> dict[str, float]:
    """Megabytes of memory, threads, and file handles of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    memory, threads = (int(status.partition(f"{key}:")[2].split()[0]) for key in ("VmRSS", "Threads"))
    return {"memory": memory / 1024, "threads": threads, "handles": len(os.listdir(f"/proc/{pid}/fd"))}


def _ended(loop: subprocess.Popen[bytes]) -> int | None:
    """Its exit status after SIGTERM; None where it did not end."""
    loop.send_signal(signal.SIGTERM)
    try:
        return loop.wait(timeout=60)
    except subprocess.TimeoutExpired:
        return None


def _answers(lines: Path) -> list[dict[str, float]]:
    """Time, latency, age and number of faces of each frame that was answered."""
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
    parser = argparse.ArgumentParser(
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
