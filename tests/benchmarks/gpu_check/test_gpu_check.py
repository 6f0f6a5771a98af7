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
from benchmarks.gpu_check import gpu_tests
from benchmarks.gpu_check.heads import configuration
from benchmarks.gpu_check.implementations import LAYERS, WINDOWS
from benchmarks.gpu_check.plan import PARTS, PIECES, SLOW, Scale, listing, plan
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
    assert reasons.pop(("models", "tensorrt native")) == reasons.pop(("models", "tensorrt kernel")) == "no TensorRT"
    assert set(reasons.values()) == {""}
    shown = listing(plan(), Scale())
    assert shown.count("because") == 2
    assert "N 1, 3, 10 and batch 1, 4, 16" in shown and "edge, paper in FP32, FP16" in shown


def test_only_leaves_the_other_parts_out_but_not_the_kernel_that_heads_need(monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.plan.missing_reason", lambda need: "")
    running = {only: {piece.part for piece in plan([only]) if not piece.reason} for only in PARTS}
    assert running == {
        **{part: {part} for part in ("kernel", "models", "tests")},
        **{part: {part, "kernel"} for part in ("tails", "heads")},
    }


def test_what_builds_for_long_can_be_left_out(monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.plan.missing_reason", lambda need: "")
    skipped = {(piece.part, piece.name) for piece in plan(without=["torch.compile"]) if piece.reason}
    assert skipped == {(part, "torch.compile") for part in ("tails", "heads", "models")}
    assert set(SLOW) <= {piece.name for piece in PIECES}


@no_gpu
def test_without_a_gpu_the_error_names_the_dry_run(capsys, tmp_path):
    assert gpu_check.main(["--json", str(tmp_path / "here.json")]) == 1
    error = capsys.readouterr().err
    assert "GPU" in error and "--dry-run" in error
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
    run_pieces(run, tmp_path, "cpu", scale)
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


@pytest.mark.slow
def test_the_outcome_of_every_test_is_counted(tmp_path, monkeypatch):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(
        textwrap.dedent(
            """
            import pytest
            pytestmark = pytest.mark.gpu
            def test_right(): pass
            def test_wrong(): assert 1 == 2
            @pytest.fixture
            def broken(): raise OSError("gone")
            def test_error(broken): pass
            def test_left_out(): pytest.skip("no TensorRT")
            """
        ),
        encoding="utf-8",
    )
    monkeypatch.setattr(gpu_tests, "ROOT", tmp_path)
    found = gpu_tests.run_gpu_tests()
    assert (found["status"], found["counts"]) == (1, {"passed": 1, "failed": 2, "skipped": 1})
    assert sorted(message[:8] for message in found["cases"].values()) == ["failed: ", "failed: ", "skipped:"]
    assert any("no TensorRT" in message for message in found["cases"].values())


def test_the_files_with_tests_for_a_gpu_are_found():
    names = {path.name for path in gpu_tests.gpu_test_files()}
    assert {"test_torch_operator.py", "test_batches.py", "test_session_on_gpu.py"} <= names


def test_every_piece_is_of_a_part_that_help_lists():
    assert {piece.part for piece in PIECES} == set(PARTS)
    assert all(piece.needs[0] == "gpu" for piece in PIECES)
