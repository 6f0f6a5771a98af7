"""Command: measure the service with 1 to 16 clients, and with a full queue, compared with the library alone."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from iern.runtime.system.command import command

import cv2

from benchmarks import RESULTS, ROOT, environment
from benchmarks.common.processor import cpu_model
from benchmarks.common.results import json_path, write_with_page
from benchmarks.service.load import Load, batch_means, load
from benchmarks.service.report import counts, figures, markdown, missed_goals
from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.errors import IernError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.images import decode_image
from iern.runtime.recognizer import ExpressionRecognizer
from iern.runtime.sources.open_source import open_source
from iern.runtime.system.arguments import Parser, number, positive, value_of
from iern.runtime.system.cpu_budget import cpu_budget

OUTPUT = RESULTS / "service.json"
CLIENTS = (1, 2, 4, 8, 16)
EVERY = 10
"""Of the bundled clip's frames every tenth is sent."""
DETECT_SIZE = 640
PRECISION = "fp32"
FULL_WAITING = 4
"""Requests that may wait in the service whose queue is to be full."""

EXAMPLES = """\
examples:
  python -m benchmarks.service                          about three minutes
  python -m benchmarks.service --rounds 1 --seconds 1   does it run?

The service is the command itself (python -m iern.runtime.service), in its own process. The library runs in another one,
and both take turns, so that other work on the machine slows both. Every answer is compared with the library's.

The command writes the figures as JSON, and a page beside it. The exit status is 1 if a goal is missed.
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parse(argv)
    results = measure(options.rounds, options.seconds)
    page = write_with_page(options.json, results, markdown(results))
    print(page.read_text(encoding="utf-8"))
    print(f"wrote {options.json}\nwrote {page}")
    return 1 if results["missed"] else 0


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Run everything. Returns the content of service.json: plain types only."""
    started = os.getloadavg()[0]
    pictures = _pictures()
    expected = _expressions(pictures)
    with tempfile.TemporaryDirectory(prefix="service-") as folder:
        for index, picture in enumerate(pictures):
            Path(folder, f"{index:03}.jpg").write_bytes(picture)
        with library(folder) as library_rate, service() as (process, url):
            load(url, pictures, expected, 1, 0.1)  # the first requests allocate
            rates, clients = _in_turns(library_rate, url, pictures, expected, rounds, seconds)
            status = _stopped(process)
    with service("--waiting", str(FULL_WAITING)) as (_, url):
        full = load(url, pictures, expected, CLIENTS[-1], max(seconds, 2.0))
    height, width = decode_image(pictures[0]).shape[:2]
    results = {
        "machine": {
            "processor": cpu_model(),
            "cores": cpu_budget(),
            "load": started,
            "python": platform.python_version(),
        },
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "rounds": rounds,
        "seconds": seconds,
        "pictures": len(pictures),
        "size": f"{width}x{height}",
        "library_rate": sum(rates) / len(rates),
        "clients": clients,
        "full": {"clients": full.clients, "waiting": FULL_WAITING, **counts([full])},
        "status": status,
    }
    return {**results, "missed": missed_goals(results)}


def _in_turns(
    library_rate: Any, url: str, pictures: Sequence[bytes], expected: Sequence[Any], rounds: int, seconds: float
) -> tuple[list[float], list[dict[str, Any]]]:
    """In each round, and for each number of clients: the library, the service, the library.

    Returns the library's rates, and the figures for each number of clients.
    """
    rates: list[float] = []
    found: dict[int, list[tuple[Load, float, float]]] = {clients: [] for clients in CLIENTS}
    for index in range(rounds):
        for clients in CLIENTS:
            before, metrics = library_rate(seconds / 2), _metrics(url)
            got = load(url, pictures, expected, clients, seconds)
            batch, after = batch_means(metrics, _metrics(url)), library_rate(seconds / 2)
            rates += [before, after]
            found[clients].append((got, got.statuses[200] / got.seconds / ((before + after) / 2), batch))
        print(f"round {index + 1} of {rounds}", flush=True)
    rows = []
    for runs in found.values():
        loads, ratios, batches = (list(column) for column in zip(*runs, strict=True))
        rows.append(figures(loads, ratios, sum(batches) / len(batches)))
    return rates, rows


@contextlib.contextmanager
def library(folder: str) -> Iterator[Any]:
    """A function from seconds to the pictures a second of the library alone, in a process of its own."""
    arguments = [sys.executable, "-m", "benchmarks.service.bare", folder, str(DETECT_SIZE), PRECISION]
    with subprocess.Popen(
        arguments, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdin and process.stdout
        talk, listen = process.stdin, process.stdout
        if listen.readline() != "ready\n":
            raise IernError("the library's process ended; see its error above")

        def rate(seconds: float) -> float:
            print(seconds, file=talk, flush=True)
            count, took = map(float, listen.readline().split())
            return count / took

        try:
            yield rate
        finally:
            process.kill()


@contextlib.contextmanager
def service(*more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The service in its own process, and its address."""
    arguments = [sys.executable, "-m", "iern.runtime.service", "--port", "0", "--detect-size", str(DETECT_SIZE)]
    arguments += ["--precision", PRECISION, *more]
    variables = {**environment(), "IERN_TOKEN": ""}
    with subprocess.Popen(arguments, cwd=ROOT, env=variables, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stdout
            printed = next((line for line in process.stdout if "http://" in line), "")
            address = re.search(r"http://\S+", printed)
            if address is None:
                raise IernError("the service ended before it listened; see its error above")
            yield process, address[0]
        finally:
            process.kill()


def _stopped(process: subprocess.Popen[str]) -> int | None:
    """Send SIGTERM and return the exit status; None if the process did not end."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        return None


def _pictures() -> list[bytes]:
    """Frames of the bundled clip as JPEGs."""
    with open_source(str(DEMO_CLIP)) as frames:
        images = [frame.image for frame in frames if frame.index % EVERY == 0]
    return [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes() for image in images]


def _expressions(pictures: Sequence[bytes]) -> list[list[str]]:
    """The library's expressions of every picture's faces."""
    with ExpressionRecognizer(detector=FaceDetector(longest_side=DETECT_SIZE), precision=PRECISION) as recognizer:
        return [[face.expression for face in recognizer(decode_image(picture))] for picture in pictures]


def _metrics(url: str) -> str:
    with urllib.request.urlopen(f"{url}metrics", timeout=60) as reply:
        return reply.read().decode()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m benchmarks.service",
        description="Measure the service under load, compared with the library alone.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--rounds", type=positive, default=3, metavar="N", help="rounds of all numbers of clients (default: 3)")
    add("--seconds", type=value_of(number), default=5.0, metavar="N", help="length of a turn (default: 5)")
    add("--json", type=json_path, default=OUTPUT, metavar="FILE", help="default: benchmarks/results/service.json")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
