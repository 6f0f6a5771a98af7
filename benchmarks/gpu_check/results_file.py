"""The results file of a run: written at the start and after every piece and every configuration."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.machine import clocks, environment
from benchmarks.gpu_check.plan import Piece
from benchmarks.gpu_check.report import markdown
from iern.runtime.system.files import write_text


class ResultsFile:
    """The results so far, in `results`, and their file and page at `path`."""

    def __init__(self, path: Path, pieces: Sequence[Piece], quick: bool, seconds: float | None = None) -> None:
        self.path = path
        self.results: dict[str, Any] = {
            "measured": time.strftime("%Y-%m-%d", time.gmtime()),
            "quick": quick,
            "seconds": seconds,
            "environment": environment(),
            "pieces": [
                {"part": p.part, "name": p.name, "status": "skipped" if p.reason else "not reached", "reason": p.reason}
                for p in pieces
            ],
            "kernel": {},
            "engines": {},
            "replay": {},
            "loop": {},
            "tests": {},
            "faster_head": "",
            "configurations": [],
        }
        self.write()

    def write(self) -> None:
        """Write the JSON file and the page beside it, each completely or not at all."""
        write_text(self.path, json.dumps(self.results, separators=(",", ":"), allow_nan=False) + "\n")
        write_text(self.path.with_suffix(".md"), markdown(self.results))

    def mark(self, part: str, name: str, status: str, reason: str = "") -> None:
        """Set and print the status of a piece, and write the files. A failed piece stays failed."""
        for piece in self.results["pieces"]:
            if (piece["part"], piece["name"]) == (part, name) and piece["status"] != "failed":
                piece.update(status=status, reason=reason)
                print(f"{part}, {name}: {status}" + (f": {reason}" if reason else ""), flush=True)
        self.write()

    def pieces_to_run(self, part: str) -> list[str]:
        """The names of a part's pieces that are not skipped."""
        return [p["name"] for p in self.results["pieces"] if p["part"] == part and p["status"] != "skipped"]

    def skipped_pieces(self, part: str) -> dict[str, str]:
        """The names of a part's skipped pieces, with the reasons."""
        return {
            p["name"]: p["reason"] for p in self.results["pieces"] if p["part"] == part and p["status"] == "skipped"
        }

    def add(self, measured: dict[str, Any]) -> None:
        """Add a configuration, with the clocks just after it."""
        self.results["configurations"].append({**measured, "clocks": clocks()})
        timed = sum("statistics" in variant for variant in measured["variants"].values())
        title = " ".join(filter(None, (measured["part"], measured["preset"], measured["precision"])))
        print(f"{title}, N {measured['strata']}, batch {measured['batch']}: {timed} variants timed", flush=True)
        for name, reason in measured["failed"].items():
            print(f"  {name}: failed: {reason}", flush=True)
        self.write()

    def counts(self) -> str:
        """How many pieces have each status, in words."""
        counts = Counter(piece["status"] for piece in self.results["pieces"])
        return ", ".join(f"{count} {status}" for status, count in counts.items())

    @property
    def failed(self) -> bool:
        """Whether a piece or a variant failed or had wrong outputs."""
        return any(p["status"] == "failed" for p in self.results["pieces"]) or any(
            measured["failed"] for measured in self.results["configurations"]
        )
