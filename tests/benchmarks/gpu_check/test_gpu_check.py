"""The GPU check without a GPU: the plan, the results file, and the same measuring code on the CPU."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check.heads import configuration
from benchmarks.gpu_check.implementations import LAYERS, WINDOWS
from benchmarks.gpu_check.plan import BEFORE, PARTS, PIECES, SLOW, Scale, TimeLeft, listing, plan
from benchmarks.gpu_check.report import markdown
from benchmarks.gpu_check.results_file import ResultsFile
from benchmarks.gpu_check.run import piece_of, run_pieces
from benchmarks.gpu_check.timing import statistics
from iern.runtime.errors import EngineError
from repository import ROOT

BARE = ("timm", "torchvision", "onnx", "onnxscript", "onnxruntime", "cv2", "pytest", "packaging", "matplotlib", "rich")
"""Modules that are missing on a machine with PyTorch, CUDA and NumPy alone."""
TINY = Scale(most=4, least=2, seconds=0.1)

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.timing.WARM_UP", 0.002)


def on_a_bare_machine(program: str) -> str:
    """Run a program with only PyTorch and NumPy to import and without an installed `iern`; return its output."""
    start = f"import sys\nsys.modules.update(dict.fromkeys({BARE}))\n"
    # -S leaves out what an editable installation adds to the path.
    command = [sys.executable, "-S", "-c", start + textwrap.dedent(program)]
    variables = {**os.environ, "PYTHONPATH": sysconfig.get_paths()["purelib"]}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_dry_run_on_a_bare_machine_lists_everything_and_what_is_missing():
    shown = on_a_bare_machine(
        """
        from benchmarks.gpu_check import __main__ as gpu_check
        sys.exit(gpu_check.main(["--dry-run"]))
        """
    )
    lines = shown.splitlines()
    for piece in PIECES:
        assert any(f" {piece.part:<7} {piece.name:<16} {piece.what}" in line for line in lines), piece
    reasons = dict(zip((piece.part + " " + piece.name for piece in PIECES), because(shown), strict=True))
    for need in ("timm", "cv2", "onnx", "onnxruntime"):
        assert f"{need} is not installed" in reasons["models onnxruntime"]
        assert need not in reasons["heads torch"] + reasons["kernel nvcc"] + reasons["tails kernel"]
    assert "pytest is not installed" in reasons["tests pytest"]


def test_heads_tails_and_the_kernels_check_run_on_a_bare_machine():
    shown = on_a_bare_machine(
        """
        import benchmarks
        assert not benchmarks.INSTALLED
        import iern.train.network.iern
        assert iern.train.network.iern.__file__.startswith(str(benchmarks.ROOT)), iern.train.network.iern.__file__
        from benchmarks.gpu_check import kernel, run, timing
        from benchmarks.gpu_check.heads import HeadSize, Scale, configuration
        timing.WARM_UP = 0
        for part in ("tails", "heads"):
            size = HeadSize("tiny", 8, 3, 2, 5)
            skip = {"CUDA graph": "", "torch.compile": ""}
            found = configuration(part, size, "FP16", Scale(most=2, least=1, seconds=0), skip, "cpu")
            assert not found["failed"], found["failed"]
            print(part, sorted(found["variants"]))
        kernel.SHAPES, kernel.REPEATS = {"channels": 8}, 2
        print(len(kernel.check_tail("cpu")))
        """
    )
    assert "tails ['exact with kernel, eager', 'layers, eager', 'window sums, eager']" in shown
    assert "heads ['batched, eager', 'exact with kernel, eager', 'exact, eager', 'published, eager']" in shown


def because(shown: str) -> list[str]:
    """The reason of each piece listed, empty for those that run."""
    reasons: list[str] = []
    for line in shown.splitlines():
        if line.startswith(("run ", "skip ")):
            reasons.append("")
        elif line.startswith(" "):
            reasons[-1] = line.strip().removeprefix("because ")
    return reasons


@no_gpu
def test_a_dry_run_here_skips_every_piece_with_a_reason(capsys):
    assert gpu_check.main(["--dry-run"]) == 0
    reasons = because(capsys.readouterr().out)
    assert len(reasons) == len(PIECES)
    assert all("no NVIDIA GPU" in reason or "built without CUDA" in reason for reason in reasons)


def test_a_plan_names_what_is_missing_and_runs_the_rest(monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.plan.missing_reason", {"tensorrt": "no TensorRT", "triton": ""}.get)
    reasons = {(piece.part, piece.name): piece.reason for piece in plan()}
    skipped = {piece for piece, reason in reasons.items() if reason == "no TensorRT"}
    assert skipped == {
        *((part, f"tensorrt {head}") for part in ("engines", "replay", "models") for head in ("native", "kernel")),
        ("loop", "engine"),
    }
    assert {reason for piece, reason in reasons.items() if piece not in skipped} == {""}
    shown = listing(plan(), Scale())
    assert shown.count("because") == len(skipped)
    assert "N 4, 1, 3, 10: batch 1, 4, 16" in shown and "edge, paper in FP32, FP16" in shown


def test_the_proofs_come_first_and_the_sweep_of_sizes_last():
    assert PARTS == ("kernel", "engines", "replay", "models", "loop", "tests", "tails", "heads")
    assert all(PARTS.index(before) < PARTS.index(part) for part, before in BEFORE.items())


def test_a_short_run_spends_a_twentieth_of_its_time_on_a_size():
    assert Scale().within(400).seconds == 20
    assert Scale().within(None) == Scale().within(10_000) == Scale()


def test_only_leaves_the_other_stages_out_but_not_what_a_stage_needs(monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.plan.missing_reason", lambda need: "")
    running = {only: {piece.part for piece in plan([only]) if not piece.reason} for only in PARTS}
    assert running == {
        **{part: {part} for part in ("kernel", "engines", "tests")},
        **{part: {part, "engines"} for part in ("replay", "models", "loop")},
        **{part: {part, "kernel"} for part in ("tails", "heads")},
    }


def test_what_builds_for_long_can_be_left_out(monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.plan.missing_reason", lambda need: "")
    skipped = {(piece.part, piece.name) for piece in plan(without=["torch.compile"]) if piece.reason}
    assert skipped == {(part, "torch.compile") for part in ("tails", "heads", "models")}
    assert set(SLOW) <= {piece.name for piece in PIECES}


@no_gpu
def test_without_a_gpu_the_reason_of_every_piece_is_printed_and_written_and_the_run_has_failed(capsys, tmp_path):
    target = tmp_path / "here.json"
    assert gpu_check.main(["--seconds", "400", "--json", str(target)]) == 1
    printed = capsys.readouterr()
    assert all("no NVIDIA GPU" in reason or "built without CUDA" in reason for reason in because(printed.out))
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert f"and nothing ran; run this on a machine with an NVIDIA GPU; {target} has the reason" in printed.err
    pieces = json.loads(target.read_text(encoding="utf-8"))["pieces"]
    assert [(piece["part"], piece["name"]) for piece in pieces] == [(piece.part, piece.name) for piece in PIECES]
    assert all(piece["status"] == "skipped" and piece["reason"] for piece in pieces)
    page = target.with_suffix(".md").read_text(encoding="utf-8")
    assert page.startswith("# No GPU") and page.count("| skipped |") == len(PIECES)


@no_gpu
def test_without_a_gpu_and_a_named_file_nothing_is_written(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.__main__.RESULTS", tmp_path)
    assert gpu_check.main([]) == 1
    assert "GPU" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_result_that_would_overwrite_its_own_page_is_refused(capsys):
    with pytest.raises(SystemExit) as left:
        gpu_check.main(["--json", "here.md"])
    assert left.value.code == 2
    assert "'here.md' must end in .json" in capsys.readouterr().err


def test_help_explains_the_parts(capsys):
    with pytest.raises(SystemExit) as left:
        gpu_check.main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {part} " in shown for part in PARTS) and "Exit status" in shown


@pytest.mark.parametrize(
    ("variant", "piece"),
    [
        ("exact, eager", "torch"),
        ("exact with kernel, CUDA graph", "kernel"),
        ("exact with kernel, torch.compile", "torch.compile"),
        ("exact with kernel", "kernel"),
        ("tensorrt kernel", "tensorrt kernel"),
        ("onnxruntime", "onnxruntime"),
    ],
)
def test_a_failure_is_reported_for_the_piece_that_it_belongs_to(variant, piece):
    names = ("torch", "kernel", "torch.compile", "tensorrt kernel", "onnxruntime")
    assert piece_of(variant, names) == piece


def run_here(path: Path, running: set[tuple[str, str]]) -> ResultsFile:
    """A run of some pieces and no others."""
    return ResultsFile(
        path, [dataclasses.replace(p, reason="" if (p.part, p.name) in running else "not here") for p in PIECES], True
    )


def test_a_run_keeps_what_was_measured_when_a_later_part_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.implementations.PRESETS", {"edge": {"width": 8}})
    scale = dataclasses.replace(TINY, presets=("edge",), precisions=("FP32",), strata=(2,), batches=(1,))
    run = run_here(
        tmp_path / "here.json", {("kernel", "image"), ("tails", "torch"), ("tails", "kernel"), ("heads", "torch")}
    )
    real = configuration

    def failing(part: str, *others: object) -> dict:
        if part == "heads":
            raise RuntimeError("the GPU has fallen off the bus")
        return real(part, *others)

    monkeypatch.setattr("benchmarks.gpu_check.heads.configuration", failing)
    monkeypatch.setattr("benchmarks.gpu_check.run.capability", lambda: "sm_0")
    monkeypatch.setattr("benchmarks.gpu_check.run.from_images", no_image)
    run_pieces(run, tmp_path, "cpu", scale, TimeLeft(None))
    assert run.failed
    kept = json.loads(run.path.read_text(encoding="utf-8"))
    statuses = {(p["part"], p["name"]): (p["status"], p["reason"]) for p in kept["pieces"]}
    assert statuses["kernel", "image"] == ("failed", "no image for sm_0")
    assert statuses["tails", "kernel"] == ("skipped", "no kernel is right, see above")
    assert statuses["tails", "torch"] == ("ok", "")
    assert statuses["heads", "torch"] == ("failed", "RuntimeError: the GPU has fallen off the bus")
    assert statuses["tests", "pytest"] == ("skipped", "not here")
    (measured,) = kept["configurations"]
    assert set(measured["variants"]) == {f"{LAYERS}, eager", f"{WINDOWS}, eager"}, "a kernel that is not right is timed"
    page = run.path.with_suffix(".md").read_text(encoding="utf-8")
    assert page == markdown(kept)
    assert "fallen off the bus" in page and "## tails edge FP32, N 2, batch 1" in page


def test_each_stage_is_written_before_the_next_begins_and_one_that_fails_stops_no_other(tmp_path, monkeypatch):
    engine = tmp_path / "native.engine"
    running = {
        *(("engines", f"tensorrt {head}") for head in ("native", "kernel")),
        *(("replay", name) for name in ("tensorrt native", "tensorrt kernel", "onnxruntime")),
        *(("loop", "engine"), ("tests", "pytest")),
    }
    run, seen = run_here(tmp_path / "here.json", running), {}

    def written() -> dict[tuple[str, str], tuple[str, str]]:
        pieces = json.loads(run.path.read_text(encoding="utf-8"))["pieces"]
        return {(p["part"], p["name"]): (p["status"], p["reason"]) for p in pieces}

    def build(head: str, *others: object, **left: object) -> Path:
        if head == "kernel":
            raise EngineError("export/to_trt.py, status 1: no tactic")
        return engine

    def replay(path: Path) -> dict:
        seen["replay"] = written()
        assert path == engine
        return {"counts": 20, "probability_error": 0.001}

    def tests(*others: object) -> dict:
        seen["tests"] = written()
        return {"status": 0, "counts": {"passed": 3, "failed": 0, "skipped": 1}, "cases": {}}

    def loop_run(model: Path, records: Path, *others: object, **left: object) -> list[dict]:
        joules = {"cpu.jsonl": 0.25, "engine.jsonl": 0.0625}[records.name]
        sensors = [{"name": "GPU 0", "joules_per_frame": joules}, {"name": "rail", "joules_per_frame": None}]
        records.with_suffix(".summary.json").write_text(json.dumps({"energy": sensors}), encoding="utf-8")
        return [{}]

    facts = {"tensorrt": "10.3.0", "plan_bytes": 5, "batches": [1], "parity": {"faces": 9, "agreement": 1, "logits": 0}}
    loop = {"frames": 2, "faces": 3, "probability_error": 0.0, "milliseconds": {"this": {"total": 5.0}, "CPU": {}}}
    monkeypatch.setattr("benchmarks.gpu_check.programs.build_engine", build)
    monkeypatch.setattr("benchmarks.gpu_check.programs.engine_facts", lambda path: facts)
    monkeypatch.setattr("benchmarks.gpu_check.replay.check_engine_replay", replay)
    monkeypatch.setattr("benchmarks.gpu_check.programs.run_loop", loop_run)
    monkeypatch.setattr("benchmarks.gpu_check.programs.compare_loops", lambda records, reference: loop)
    monkeypatch.setattr("benchmarks.gpu_check.programs.run_gpu_tests", tests)
    run_pieces(run, tmp_path, "cpu", TINY, TimeLeft(None))
    assert seen["replay"]["engines", "tensorrt native"] == ("ok", "")
    assert seen["replay"]["engines", "tensorrt kernel"] == ("failed", "export/to_trt.py, status 1: no tactic")
    assert seen["replay"]["tests", "pytest"] == ("not reached", "")
    assert seen["tests"]["replay", "tensorrt native"] == seen["tests"]["loop", "engine"] == ("ok", "")
    assert seen["tests"]["replay", "tensorrt kernel"] == ("skipped", "no engine is right, see above")
    assert written()["tests", "pytest"] == ("ok", "3 passed, 0 failed, 1 skipped")
    status, reason = written()["replay", "onnxruntime"]  # really tried here
    assert status == "failed" and ("CUDA" in reason or "provider" in reason)
    assert run.failed and run.counts() == "15 skipped, 4 ok, 2 failed"
    page = run.path.with_suffix(".md").read_text(encoding="utf-8")
    for line in ("| tensorrt native | 1 to 20 | 1.0e-03 |", "| engine | 2 | 3 | 0.0e+00 | - | - | 5.000 | - |"):
        assert line in page
    assert "- engine: GPU 0 0.0625 J, on the CPU 0.250 J" in page and "rail" not in page


def test_when_the_time_is_up_the_rest_is_not_reached_and_nothing_has_failed(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.implementations.PRESETS", {"edge": {"width": 8}})
    scale = dataclasses.replace(TINY, presets=("edge",), precisions=("FP32",), strata=(2, 3), batches=(1,))
    run = run_here(tmp_path / "here.json", {("tails", "torch"), ("heads", "torch"), ("tests", "pytest")})
    monkeypatch.setattr("benchmarks.gpu_check.programs.run_gpu_tests", stopped)
    run_pieces(run, tmp_path, "cpu", scale, Countdown([9, 9, 0, 9, 0, 0]))
    statuses = {p["part"]: (p["status"], p["reason"]) for p in run.results["pieces"] if p["status"] != "skipped"}
    assert statuses == {
        "tests": ("not reached", "stopped after 9 s"),
        "tails": ("ok", "the time was up after size 1"),
        "heads": ("not reached", "the time was up"),
    }
    assert len(run.results["configurations"]) == 1
    assert not run.failed


class Countdown(TimeLeft):
    """Gives the seconds of a list, one a call, and then 0."""

    def __init__(self, seconds: list[float]) -> None:
        self._seconds = iter(seconds)

    def __call__(self) -> float:
        return next(self._seconds, 0)


def stopped(folder: Path, left: float) -> dict:
    raise EngineError(f"stopped after {left:.0f} s")


def no_image(capability: str) -> None:
    raise EngineError(f"no image for {capability}")


def made_up(milliseconds: dict[str, float]) -> dict:
    """A configuration with the milliseconds of each variant, the same in every call."""
    clocks = ("wall", "gpu", "enqueue")
    return {
        "part": "heads",
        "preset": "edge",
        "precision": "FP16",
        "strata": 3,
        "batch": 4,
        "failed": {"x": "why"},
        "variants": {
            name: {
                "probability_error": 1e-4,
                "build_seconds": 1.5,
                "memory_bytes": 2_000_000,
                "runs_as": "contiguous",
                "statistics": {clock: statistics([value] * 3) for clock in clocks},
            }
            for name, value in milliseconds.items()
        },
    }


def test_a_ratio_is_the_published_median_over_the_variants_own(tmp_path):
    run = run_here(tmp_path / "here.json", set())
    run.add(made_up({"exact, CUDA graph": 0.5, "published, eager": 2.0}))
    page = markdown(run.results)
    cells = "| {} | 3 | {} | {} | {} | {} | {} | 0.000 | {} | 1e-04 | 1.5 | 2.0 | - | contiguous |"
    assert cells.format("published, eager", "1.00", "1.00", *["2.000"] * 4) in page
    assert cells.format("exact, CUDA graph", "4.00", "4.00", *["0.500"] * 4) in page
    assert "- x: failed: why" in page
    assert run.failed, "a configuration in which something failed is a failed run"


def test_a_failed_piece_stays_failed(tmp_path):
    run = run_here(tmp_path / "here.json", {("heads", "torch")})
    run.mark("heads", "torch", "failed", "wrong")
    run.mark("heads", "torch", "ok")
    assert run.failed


@pytest.mark.parametrize(
    ("happens", "status"), [(None, 0), (KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 1)]
)
def test_the_exit_status_is_that_of_the_outcome(tmp_path, monkeypatch, capsys, happens, status):
    def steps(run: ResultsFile, *others: object) -> None:
        if happens:
            raise happens

    monkeypatch.setattr("benchmarks.gpu_check.run.run_pieces", steps)
    monkeypatch.setattr("benchmarks.gpu_check.__main__.missing_reason", lambda need: "")
    target = tmp_path / "here.json"
    assert gpu_check.main(["--json", str(target)]) == status
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.json", "here.md"]
    assert "Traceback" not in capsys.readouterr().err


def test_every_piece_is_of_a_part_that_help_lists():
    assert {piece.part for piece in PIECES} == set(PARTS)
    assert all(piece.needs[0] == "gpu" for piece in PIECES)
