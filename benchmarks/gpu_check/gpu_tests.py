"""Runs the tests marked `gpu` in their own process, and reads their outcomes."""

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


def gpu_test_files() -> list[Path]:
    """The test files that hold a test for a GPU."""
    return [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text(encoding="utf-8")]


def run_gpu_tests() -> dict[str, Any]:
    """Run the tests. Returns `counts` by outcome, pytest's messages of `cases` that did not pass, and the `status`."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        report = Path(folder) / "report.xml"
        options = ["-m", "gpu", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command = [sys.executable, "-m", "pytest", *options, *map(str, gpu_test_files())]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, encoding="utf-8", errors="replace", check=False
        )
        if not report.is_file():
            lines = (done.stderr + done.stdout).strip().splitlines() or ["no output"]
            return {"status": done.returncode, "counts": {"failed": 1}, "cases": {"pytest": f"failed: {lines[-1]}"}}
        return {"status": done.returncode, **outcomes(report.read_text(encoding="utf-8"))}


def outcomes(report: str) -> dict[str, Any]:
    """Read `counts` and `cases` from JUnit's XML."""
    counts: Counter[str] = Counter(passed=0, failed=0, skipped=0)
    cases = {}
    # The XML comes from our own process, so it is safe to parse.
    for case in ElementTree.fromstring(report).iter("testcase"):
        kinds = {"failure": "failed", "error": "failed", "skipped": "skipped"}
        found = next(((kinds[child.tag], child.get("message", "")) for child in case if child.tag in kinds), None)
        counts[found[0] if found else "passed"] += 1
        if found:
            cases[f"{case.get('classname')}::{case.get('name')}"] = f"{found[0]}: {' '.join(found[1].split())[:300]}"
    return {"counts": dict(counts), "cases": cases}
