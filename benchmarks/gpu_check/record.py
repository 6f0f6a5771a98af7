"""The record of a run of gpu_check.py: on the disk from the start, and again after every step."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.machine import clocks, environment
from benchmarks.gpu_check.plan import Piece
from benchmarks.gpu_check.report import markdown
from iern.runtime.system.files import write_text


class Run:
    """What is known so far."""

    def __init__(self, path: Path, pieces: Sequence[Piece], quick: bool) -> None:
        self.path = path
        self.record: dict[str, Any] = {
            "measured": time.strftime("%Y-%m-%d", time.gmtime()),
            "quick": quick,
            "environment": environment(),
            "pieces": [
                {"part": p.part, "name": p.name, "status": "skipped" if p.reason else "not reached", "reason": p.reason}
                for p in pieces
            ],
            "kernel": {},
            "tests": {},
            "faster_head": "",
            "configurations": [],
        }
        self.write()

    def write(self) -> None:
        """The JSON file and the page beside it, each whole or as it was."""
        write_text(self.path, json.dumps(self.record, separators=(",", ":"), allow_nan=False) + "\n")
        write_text(self.path.with_suffix(".md"), markdown(self.record))

    def mark(self, part: str, name: str, status: str, reason: str = "") -> None:
        """Say what became of a piece. A failure stays one."""
        for piece in self.record["pieces"]:
            if (piece["part"], piece["name"]) == (part, name) and piece["status"] != "failed":
                piece.update(status=status, reason=reason)
                say(f"{part}, {name}: {status}" + (f": {reason}" if reason else ""))
        self.write()

    def reached(self, part: str) -> list[str]:
        """The names of a part's pieces that are not skipped."""
        return [p["name"] for p in self.record["pieces"] if p["part"] == part and p["status"] != "skipped"]

    def skipped(self, part: str) -> dict[str, str]:
        """The names of a part's other pieces, with the reasons."""
        return {p["name"]: p["reason"] for p in self.record["pieces"] if p["part"] == part and p["status"] == "skipped"}

    def add(self, measured: dict[str, Any]) -> None:
        """One more configuration, with the clocks right behind it."""
        self.record["configurations"].append({**measured, "clocks": clocks()})
        timed = sum("statistics" in variant for variant in measured["variants"].values())
        where = (measured["part"], measured["preset"], measured["precision"])
        size = f"N {measured['strata']}, batch {measured['batch']}"
        say(f"{' '.join(filter(None, where))}, {size}: {timed} variants timed")
        for name, reason in measured["failed"].items():
            say(f"  {name}: failed: {reason}")
        self.write()

    @property
    def failed(self) -> bool:
        """Whether anything that could run did not, or answered wrong."""
        return any(p["status"] == "failed" for p in self.record["pieces"]) or any(
            measured["failed"] for measured in self.record["configurations"]
        )


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)
