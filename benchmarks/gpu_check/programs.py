"""Runs our own commands in processes of their own: the export of an engine, the loop, and the tests marked `gpu`."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from benchmarks import ROOT, environment
from benchmarks.common.results import Results
from benchmarks.gpu_check.replay import LARGEST_BATCH, TOLERANCE
from iern.export.engine.plan_builder import load_backend
from iern.runtime.backends.trt.engine_file import read_manifest, times_path
from iern.runtime.bundled import DEMO_CLIP, MODEL
from iern.runtime.errors import EngineError

MARK = "pytest.mark.gpu"
HALF = MODEL.with_suffix(".fp16.onnx")
"""The half-precision file that the package ships."""
SAME_BOX = 1.0
"""Pixels. The search for faces runs on the CPU in both loops."""


def run_program(command: Sequence[str | Path], left: float = math.inf) -> subprocess.CompletedProcess[str]:
    """Run a command for at most `left` seconds and return what it printed. Raises EngineError if the time is up."""
    try:
        return subprocess.run(
            list(map(str, command)),
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=left if left < math.inf else None,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"stopped after {left:.0f} s, which were left of --seconds") from None


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The last line that a failed command printed."""
    lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
    return lines[-1].removeprefix("error: ")


def build_engine(head: str, folder: Path, source: Path = HALF, left: float = math.inf) -> Path:
    """Build an engine from an exported file with the export command, which compares it with the file where it can.

    Engines in the same folder share TensorRT's times. Raises EngineError with the command's message.
    """
    path = folder / f"{head}.engine"
    backend = load_backend().name
    options = ["--backend", backend, "--head", head, "--max-batch", str(LARGEST_BATCH), "-o", path]
    if backend == "tensorrt":
        options += ["--timing-cache", times_path(folder / "shared.engine")]
    done = run_program([sys.executable, "-m", "iern.export.to_trt", source, *options], left)
    if done.returncode or not path.is_file():
        raise EngineError(f"export/to_trt.py, status {done.returncode}: {last_line(done)}")
    return path


def engine_facts(path: Path) -> Results:
    """What an engine's manifest records. Raises EngineError if it was not compared with its file."""
    manifest = read_manifest(path)
    if not manifest.parity:
        raise EngineError("the engine was built, but it could not run here, so its outputs are not checked")
    return {
        "tensorrt": manifest.tensorrt,
        "plan_bytes": path.stat().st_size,
        "batches": list(manifest.batches),
        "parity": dict(manifest.parity),
    }


def run_loop(model: Path, records: Path, options: Sequence[str] = (), left: float = math.inf) -> list[Results]:
    """Run the loop headless on the bundled clip -> its records. Raises EngineError with the command's message.

    `energy_of(records)` is then what it took.
    """
    command = [sys.executable, "-m", "iern.runtime.webcam", "--headless", "--source", DEMO_CLIP, "--model", model]
    steady = ["--strata", "full", "--search", "every-frame", "--jsonl", records]
    steady += ["--power", "--summary", records.with_suffix(".summary.json")]
    done = run_program([*command, *steady, *options], left)
    if done.returncode:
        raise EngineError(f"runtime/webcam.py, status {done.returncode}: {last_line(done)}")
    return [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]


def energy_of(records: Path) -> dict[str, float]:
    """Sensor -> joules per frame of the loop that wrote these records. Empty if the machine measures none."""
    path = records.with_suffix(".summary.json")
    found = json.loads(path.read_text(encoding="utf-8"))["energy"] if path.is_file() else []
    return {each["name"]: each["joules_per_frame"] for each in found if each["joules_per_frame"] is not None}


def compare_loops(records: Sequence[Results], reference: Sequence[Results]) -> Results:
    """The records of two loops over one clip -> how many faces they have, how far they differ, and the median times.

    Raises EngineError if the loops found other faces, or a face's probabilities differ by more than TOLERANCE.
    """
    if not reference or len(records) != len(reference):
        raise EngineError(f"the loop wrote {len(records)} records, the one on the CPU {len(reference)}")
    differences, faces = [0.0], 0
    for one, other in zip(records, reference, strict=True):
        boxes, expected = ([face["box"] for face in record["faces"]] for record in (one, other))
        if len(boxes) != len(expected) or not np.allclose(boxes, expected, rtol=0, atol=SAME_BOX):
            raise EngineError(f"frame {one['frame']}: the loop found faces at {boxes}, on the CPU at {expected}")
        pairs = zip(one["faces"], other["faces"], strict=True)
        differences += [_largest_difference(*pair) for pair in pairs]
        faces += len(boxes)
    difference = float(np.max(differences))  # NaN if one is
    if not difference <= TOLERANCE:
        raise EngineError(f"a face's probabilities differ by {difference:.1e} from those on the CPU, over {TOLERANCE}")
    return {
        "frames": len(records),
        "faces": faces,
        "probability_error": difference,
        "milliseconds": {"this": _medians(records), "CPU": _medians(reference)},
    }


def _largest_difference(face: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Of the probabilities of this frame alone, since smoothing hides differences."""
    found, expected = (each.get("raw_probabilities", each["probabilities"]) for each in (face, other))
    return float(np.max([abs(found[name] - expected[name]) for name in expected]))


def _medians(records: Sequence[Results]) -> dict[str, float]:
    with_faces = [record["latency_ms"] for record in records if record["faces"]]
    stages = ("detect", "preprocess", "infer", "total")
    return {stage: round(float(np.median([each[stage] for each in with_faces])), 3) for stage in stages if with_faces}


def gpu_test_files() -> list[Path]:
    """The test files that hold a test for a GPU."""
    return [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text(encoding="utf-8")]


def run_gpu_tests(folder: Path, left: float = math.inf) -> dict[str, Any]:
    """Run the tests. Returns `counts` by outcome, pytest's messages of `cases` that did not pass, and the `status`."""
    report = folder / "report.xml"
    options = ["-m", "gpu", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    done = run_program([sys.executable, "-m", "pytest", *options, *gpu_test_files()], left)
    if not report.is_file():
        return {"status": done.returncode, "counts": {"failed": 1}, "cases": {"pytest": f"failed: {last_line(done)}"}}
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
