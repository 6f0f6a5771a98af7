"""The tests marked `gpu`, in a process of their own, and what became of each."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks import ROOT, environment

MARK = "pytest.mark.gpu"


def files() -> list[Path]:
    """Test files that hold a test for a GPU."""
    return [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text(encoding="utf-8")]


def run() -> dict[str, Any]:
    """Run them -> `counts` by outcome, `cases` with what pytest says of those that did not pass, and the `status`."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        report = Path(folder) / "report.xml"
        options = ["-m", "gpu", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command = [sys.executable, "-m", "pytest", *options, *map(str, files())]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, encoding="utf-8", errors="replace", check=False
        )
        if not report.is_file():
            lines = (done.stderr + done.stdout).strip().splitlines() or ["it says nothing"]
            return {"status": done.returncode, "counts": {"failed": 1}, "cases": {"pytest": f"failed: {lines[-1]}"}}
        return {"status": done.returncode, **outcomes(report.read_text(encoding="utf-8"))}


def outcomes(report: str) -> dict[str, Any]:
    """JUnit's XML -> `counts` and `cases`."""
    counts: Counter[str] = Counter(passed=0, failed=0, skipped=0)
    cases = {}
    # Written by our own process a moment ago.
    for case in ElementTree.fromstring(report).iter("testcase"):
        kinds = {"failure": "failed", "error": "failed", "skipped": "skipped"}
        found = next(((kinds[child.tag], child.get("message", "")) for child in case if child.tag in kinds), None)
        counts[found[0] if found else "passed"] += 1
        if found:
            cases[f"{case.get('classname')}::{case.get('name')}"] = f"{found[0]}: {' '.join(found[1].split())[:300]}"
    return {"counts": dict(counts), "cases": cases}
