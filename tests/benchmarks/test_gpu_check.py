"""gpu_check.py as far as it goes without a GPU: the plan, the record, and the same measuring code on the CPU."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics as standard
import subprocess
import sys
import sysconfig
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from repository import ROOT

sys.path.append(str(ROOT / "benchmarks"))  # as where a person runs the command

import gpu_check
import gpu_pytest
from gpu_forms import BATCHED, EXACT, KERNEL, LAYERS, PUBLISHED, WINDOWS, HeadSize, random_emotion, random_head
from gpu_heads import configuration, deviations
from gpu_plan import PARTS, PIECES, Scale, listed, plan
from gpu_record import Run
from gpu_report import markdown
from gpu_run import piece_of, run_pieces
from gpu_timing import Prepared, Sample, by_clock, measure, statistics
from gpu_variants import COMPILED, EAGER, GRAPH, prepare

from iern.runtime.errors import EngineError

COMMAND = ROOT / "benchmarks" / "gpu_check.py"
BARE = ("timm", "torchvision", "onnx", "onnxscript", "onnxruntime", "cv2", "pytest", "packaging", "matplotlib", "rich")
"""what a machine with PyTorch, CUDA and NumPy alone does not have"""
TINY = Scale(most=4, least=2, seconds=0.1)
SIZE = HeadSize("tiny", width=8, strata=3, batch=3, side=5)
ON_CPU = {GRAPH: "no GPU", COMPILED: "takes long"}

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch):
    monkeypatch.setattr("gpu_timing.WARM_UP", 0.002)


def on_a_bare_machine(program: str) -> str:
    """What a program prints where only PyTorch and NumPy can be imported, and `iern` is not installed."""
    start = f"""
        import sys
        sys.path[:0] = [{str(COMMAND.parent)!r}]
        sys.path.append({sysconfig.get_paths()["purelib"]!r})
        sys.modules.update(dict.fromkeys({BARE}))
    """
    # -S leaves out what an editable installation adds to the path.
    command = [sys.executable, "-S", "-c", textwrap.dedent(start) + textwrap.dedent(program)]
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=surroundings, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_dry_run_on_a_bare_machine_lists_everything_and_says_what_is_missing():
    shown = on_a_bare_machine(
        """
        import gpu_check
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
        import checkout
        assert not checkout.INSTALLED
        import iern.train.model
        assert iern.train.model.__file__.startswith(str(checkout.ROOT)), iern.train.model.__file__
        import gpu_run, gpu_kernel, gpu_timing
        from gpu_heads import HeadSize, Scale, configuration
        gpu_timing.WARM_UP = 0
        for part in ("tails", "heads"):
            size = HeadSize("tiny", 8, 3, 2, 5)
            skip = {"CUDA graph": "", "torch.compile": ""}
            found = configuration(part, size, "FP16", Scale(most=2, least=1, seconds=0), skip, "cpu")
            assert not found["failed"], found["failed"]
            print(part, sorted(found["variants"]))
        gpu_kernel.SHAPES, gpu_kernel.AGAIN = {"channels": 8}, 2
        print(len(gpu_kernel.check_tail("cpu")))
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


def test_a_plan_names_what_is_lacking_and_runs_the_rest(monkeypatch):
    monkeypatch.setattr("gpu_plan.lacks", {"tensorrt": "no TensorRT", "triton": ""}.get)
    reasons = {(piece.part, piece.name): piece.reason for piece in plan()}
    assert reasons.pop(("models", "tensorrt native")) == reasons.pop(("models", "tensorrt kernel")) == "no TensorRT"
    assert set(reasons.values()) == {""}
    shown = listed(plan(), Scale())
    assert shown.count("because") == 2
    assert "N 1, 3, 10 and batch 1, 4, 16" in shown and "edge, paper in FP32, FP16" in shown


def test_only_leaves_the_other_parts_out_but_not_the_kernel_that_heads_need(monkeypatch):
    monkeypatch.setattr("gpu_plan.lacks", lambda need: "")
    running = {only: {piece.part for piece in plan([only]) if not piece.reason} for only in PARTS}
    assert running == {
        **{part: {part} for part in ("kernel", "models", "tests")},
        **{part: {part, "kernel"} for part in ("tails", "heads")},
    }


@no_gpu
def test_without_a_gpu_the_command_says_so_and_what_can_be_done(capsys, tmp_path):
    assert gpu_check.main(["--json", str(tmp_path / "here.json")]) == 1
    said = capsys.readouterr().err
    assert "GPU" in said and "--dry-run" in said
    assert not list(tmp_path.iterdir())


def test_help_teaches_the_parts(capsys):
    with pytest.raises(SystemExit) as left:
        gpu_check.main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {part} " in shown for part in PARTS) and "Exit status" in shown


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
@pytest.mark.parametrize(
    ("part", "forms"), [("heads", (PUBLISHED, BATCHED, EXACT, KERNEL)), ("tails", (LAYERS, WINDOWS, KERNEL))]
)
def test_every_form_agrees_with_float64_and_is_timed(part, forms, precision):
    found = configuration(part, SIZE, precision, TINY, ON_CPU, "cpu")
    assert found["failed"] == {}
    assert set(found["variants"]) == {f"{form}, {EAGER}" for form in forms}
    for variant in found["variants"].values():
        assert variant["logit_error"] < (1e-6 if precision == "FP32" else 5e-3)
        assert set(variant["milliseconds"]) == {"wall", "gpu", "enqueue"}
        assert TINY.least <= variant["statistics"]["wall"]["n"] <= TINY.most
    json.dumps(found, allow_nan=False)


def test_a_head_without_a_kernel_is_measured_in_the_other_forms():
    found = configuration("heads", SIZE, "FP32", TINY, {**ON_CPU, "kernel": "none here"}, "cpu")
    assert {name.split(",")[0] for name in found["variants"]} == {PUBLISHED, BATCHED, EXACT}


@pytest.mark.slow
def test_compiled_forms_agree_with_float64():
    found = configuration("heads", SIZE, "FP32", TINY, {GRAPH: "no GPU"}, "cpu")
    assert found["failed"] == {}
    assert {name for name in found["variants"] if name.endswith(COMPILED)} == {
        f"{form}, {COMPILED}" for form in (PUBLISHED, BATCHED, EXACT, KERNEL)
    }


def test_the_random_head_gives_logits_and_strata_that_errors_can_be_seen_in():
    size = dataclasses.replace(SIZE, width=32, side=7)
    head = random_head(size)
    with torch.no_grad():
        emotion = random_emotion(size)
        logits = torch.stack([head.classifier(head.reconstruction(emotion, c)) for c in head.confounders], dim=1)
    assert 0.3 < logits.std() < 3
    assert logits.std(dim=1).mean() > 0.05, "the strata hardly differ"


class Wrong(nn.Module):
    """Answers, but not right."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The input as every output."""
        if self.error:
            raise self.error
        return x, x, x


def test_a_form_that_answers_wrong_or_fails_is_not_timed_and_the_others_are():
    def check(answer: list[np.ndarray]) -> dict[str, float]:
        if answer[0].min() < 0:
            raise EngineError("wrong")
        return {"probability_error": 0.0}

    class Right(Wrong):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return x.abs(), x, x

    forms = {"right": Right(), "wrong": Wrong(), "failing": Wrong(RuntimeError("boom"))}
    forms["large"] = Wrong(torch.OutOfMemoryError("full"))
    calls, facts, failed = prepare(forms, (torch.full((2, 2, 2, 2), -1.0),), check, ON_CPU, "cpu")
    assert list(calls) == ["right, eager"]
    assert failed == {"wrong, eager": "wrong", "failing": "RuntimeError: boom"}
    assert facts["large"] == {"skipped": "not enough memory on the GPU"}


@pytest.mark.parametrize("spoiled", [0, 1, 2])
def test_an_answer_is_held_against_float64_in_all_its_parts(spoiled):
    expected = np.random.default_rng(0).normal(size=(2, 3, 4))
    mean = expected.mean(axis=1)
    right = [np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True), mean, expected]
    assert deviations(right, expected, [0, 1], 1e-6)["probability_error"] < 1e-12
    answer = [values.copy() for values in right]
    answer[spoiled] += 0.01
    if spoiled == 0:
        assert deviations(answer, expected, [0, 1], 1e-6)["probability_error"] == pytest.approx(0.01)
    else:
        with pytest.raises(EngineError, match="logits differ from float64 by"):
            deviations(answer, expected, [0, 1], 1e-6)
    answer[spoiled][0] = np.nan
    with pytest.raises(EngineError, match="not finite"):
        deviations(answer, expected, [0, 1], 1e-6)


def test_the_three_clocks_tell_copies_computation_and_enqueueing_apart():
    def form(x: torch.Tensor) -> tuple[torch.Tensor]:
        time.sleep(0.005)
        return (x + 1,)

    call = Prepared(form, (torch.zeros(2, 3),), "cpu")
    wall, gpu, enqueue = call()
    assert 5 <= enqueue <= gpu <= wall < 50
    np.testing.assert_array_equal(call.answer()[0], np.ones((2, 3)))


def test_samples_are_as_many_as_fit_the_time_within_their_bounds():
    def call() -> Sample:
        time.sleep(0.001)
        return Sample(1.0, None, None)

    counts = {seconds: len(measure({"a": call}, 12, 3, seconds)["a"]["wall"]) for seconds in (0, 0.006, 10)}
    assert counts[0] == 3 and counts[10] == 12 and 3 <= counts[0.006] <= 6


def test_figures_are_those_of_the_standard_library():
    values = [float(value) for value in np.random.default_rng(1).gamma(2, size=99)]
    found, hundredths = statistics(values), standard.quantiles(values, n=100, method="inclusive")
    expected = {
        "n": 99,
        "min": min(values),
        "mean": standard.mean(values),
        "median": standard.median(values),
        "p90": hundredths[89],
        "p95": hundredths[94],
        "p99": hundredths[98],
        "max": max(values),
        "cv": standard.pstdev(values) / standard.mean(values),
    }
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_clock_that_is_not_read_leaves_no_samples():
    assert by_clock([Sample(1.0, 0.5, None), Sample(2.0, 0.25, None)]) == {"wall": [1.0, 2.0], "gpu": [0.5, 0.25]}


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
def test_a_failure_is_told_of_the_piece_that_it_belongs_to(variant, piece):
    names = ("torch", "kernel", "torch.compile", "tensorrt kernel", "onnxruntime")
    assert piece_of(variant, names) == piece


def run_here(path: Path, running: set[tuple[str, str]]) -> Run:
    """A run of some pieces and no others."""
    return Run(
        path, [dataclasses.replace(p, reason="" if (p.part, p.name) in running else "not here") for p in PIECES], True
    )


def test_a_run_keeps_what_was_measured_when_a_later_part_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("gpu_forms.PRESETS", {"edge": {"width": 8}})
    scale = dataclasses.replace(TINY, presets=("edge",), precisions=("FP32",), strata=(2,), batches=(1,))
    run = run_here(
        tmp_path / "here.json", {("kernel", "image"), ("tails", "torch"), ("tails", "kernel"), ("heads", "torch")}
    )
    real = configuration

    def failing(part: str, *others: object) -> dict:
        if part == "heads":
            raise RuntimeError("the GPU has fallen off the bus")
        return real(part, *others)

    monkeypatch.setattr("gpu_heads.configuration", failing)
    monkeypatch.setattr("gpu_run.capability", lambda: "sm_0")
    monkeypatch.setattr("gpu_run.from_images", no_image)
    run_pieces(run, tmp_path, "cpu", scale)
    assert run.failed
    kept = json.loads(run.path.read_text(encoding="utf-8"))
    became = {(p["part"], p["name"]): (p["status"], p["reason"]) for p in kept["pieces"]}
    assert became["kernel", "image"] == ("failed", "no image for sm_0")
    assert became["tails", "kernel"] == ("skipped", "no kernel answers right, see above")
    assert became["tails", "torch"] == ("ok", "")
    assert became["heads", "torch"] == ("failed", "RuntimeError: the GPU has fallen off the bus")
    assert became["tests", "pytest"] == ("skipped", "not here")
    (measured,) = kept["configurations"]
    assert set(measured["variants"]) == {f"{LAYERS}, eager", f"{WINDOWS}, eager"}, (
        "a kernel that does not answer is timed"
    )
    page = run.path.with_suffix(".md").read_text(encoding="utf-8")
    assert page == markdown(kept)
    assert "fallen off the bus" in page and "## tails edge FP32, N 2, batch 1" in page


def no_image(capability: str) -> None:
    raise EngineError(f"no image for {capability}")


def made_up(milliseconds: dict[str, float]) -> dict:
    """A configuration whose variants took so long, each time."""
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
    page = markdown(run.record)
    cells = "| {} | 3 | {} | {} | {} | {} | {} | 0.000 | {} | 1e-04 | 1.5 | 2.0 | - | contiguous |"
    assert cells.format("published, eager", "1.00", "1.00", *["2.000"] * 4) in page
    assert cells.format("exact, CUDA graph", "4.00", "4.00", *["0.500"] * 4) in page
    assert "- x: failed: why" in page
    assert run.failed, "a configuration in which something failed is a failed run"


def test_a_failure_stays_one(tmp_path):
    run = run_here(tmp_path / "here.json", {("heads", "torch")})
    run.mark("heads", "torch", "failed", "wrong")
    run.mark("heads", "torch", "ok")
    assert run.failed


@pytest.mark.parametrize(
    ("happens", "status"), [(None, 0), (KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 1)]
)
def test_the_exit_status_tells_how_it_went(tmp_path, monkeypatch, capsys, happens, status):
    def steps(run: Run, *others: object) -> None:
        if happens:
            raise happens

    monkeypatch.setattr("gpu_run.run_pieces", steps)
    monkeypatch.setattr("gpu_check.lacks", lambda need: "")
    target = tmp_path / "here.json"
    assert gpu_check.main(["--json", str(target)]) == status
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.json", "here.md"]
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
def test_what_became_of_every_test_is_counted(tmp_path, monkeypatch):
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
    monkeypatch.setattr(gpu_pytest, "ROOT", tmp_path)
    found = gpu_pytest.run()
    assert (found["status"], found["counts"]) == (1, {"passed": 1, "failed": 2, "skipped": 1})
    assert sorted(said[:8] for said in found["cases"].values()) == ["failed: ", "failed: ", "skipped:"]
    assert any("no TensorRT" in said for said in found["cases"].values())


def test_the_files_with_tests_for_a_gpu_are_found():
    names = {path.name for path in gpu_pytest.files()}
    assert {"test_torch_operator.py", "test_fixed_batch.py", "test_tensorrt_session_on_gpu.py"} <= names


def test_every_piece_is_of_a_part_that_help_tells_of():
    assert {piece.part for piece in PIECES} == set(PARTS)
    assert all(piece.needs[0] == "gpu" for piece in PIECES)
