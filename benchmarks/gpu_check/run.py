"""The stages of a run. What fails is marked in the results, and the others still run, until the time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.results import Results
from benchmarks.gpu_check import heads as gpu_heads
from benchmarks.gpu_check.kernel import check_tail, from_images, from_nvcc, reason_of
from benchmarks.gpu_check.machine import capability, gpu_name
from benchmarks.gpu_check.plan import PARTS, Scale, TimeLeft
from benchmarks.gpu_check.results_file import ResultsFile
from benchmarks.gpu_check.variants import GRAPH
from iern.cpp_ext.torch_operator import launch_with
from iern.runtime.errors import OutputError

# What needs more than PyTorch is imported where it is used: a machine with PyTorch and CUDA alone runs the rest.


def run_pieces(file: ResultsFile, folder: Path, device: str, scale: Scale, left: TimeLeft) -> None:
    """Run every piece that is not skipped, stage after stage. `folder` is for what is built.

    Results are written after each piece. Pieces that `left` has no time for are marked as not reached.
    """
    # No TF32 in FP32. cuDNN may search the fastest algorithm, since sizes do not change.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    engines: dict[str, Path] = {}
    stages: dict[str, Callable[[], None]] = {
        "kernel": lambda: _kernels(file, folder, device),
        "engines": lambda: _engines(file, folder, engines, left),
        "replay": lambda: _replay(file, engines, left),
        "models": lambda: _models(file, engines, device, scale, left),
        "loop": lambda: _loops(file, engines, folder, left),
        "tests": lambda: _tests(file, folder, left),
        "tails": lambda: _sweep(file, "tails", device, scale, left),
        "heads": lambda: _sweep(file, "heads", device, scale, left),
    }
    for part in PARTS:
        if not file.pieces_to_run(part):
            continue
        if not left():
            for name in file.pieces_to_run(part):
                file.mark(part, name, "not reached", "the time was up")
            continue
        stages[part]()


def _kernels(file: ResultsFile, folder: Path, device: str) -> None:
    """Load and check each kernel, and register the first right one with the operator."""
    loaders = {"nvcc": lambda: from_nvcc(folder, capability()), "image": lambda: from_images(capability())}
    right = []
    for name in file.pieces_to_run("kernel"):
        try:
            launch = loaders[name]()
            launch_with(device, launch)
            file.results["kernel"][name] = check_tail(device)
        except Exception as error:  # from one kernel: the other is still checked
            file.mark("kernel", name, "failed", reason_of(error))
        else:
            right.append(launch)
            file.mark("kernel", name, "ok")
    if right:
        launch_with(device, right[0])
        return
    for part in gpu_heads.PARTS:
        if "kernel" in file.pieces_to_run(part):
            file.mark(part, "kernel", "skipped", "no kernel is right, see above")


def _engines(file: ResultsFile, folder: Path, engines: dict[str, Path], left: TimeLeft) -> None:
    """Build the engine of each piece into `engines`."""

    def build(piece: str) -> Results:
        from benchmarks.gpu_check.programs import build_engine, engine_facts

        start = time.perf_counter()
        path = build_engine(piece.removeprefix("tensorrt "), folder, left=left())
        facts = {"seconds": round(time.perf_counter() - start, 1), **engine_facts(path)}
        engines[piece] = path
        return facts

    for piece in file.pieces_to_run("engines"):
        _checked(file, "engines", piece, left, lambda piece=piece: build(piece))


def _replay(file: ResultsFile, engines: Mapping[str, Path], left: TimeLeft) -> None:
    def check(piece: str) -> Results:
        from benchmarks.gpu_check.replay import check_engine_replay, check_onnxruntime_replay

        return check_onnxruntime_replay() if piece == "onnxruntime" else check_engine_replay(engines[piece])

    for piece in _with_engines(file, "replay", engines):
        _checked(file, "replay", piece, left, lambda piece=piece: check(piece))


def _loops(file: ResultsFile, engines: Mapping[str, Path], folder: Path, left: TimeLeft) -> None:
    """Run the loop on the bundled clip as each piece does, and compare its records with those of a loop on the CPU."""
    reference: list[Results] = []

    def compare(piece: str) -> Results:
        from benchmarks.gpu_check.programs import MODEL, compare_loops, energy_of, run_loop

        if not reference:
            on_cpu = ("--provider", "cpu", "--precision", "fp32")
            reference.extend(run_loop(MODEL, folder / "cpu.jsonl", on_cpu, left()))
        if piece == "engine":
            records = run_loop(next(iter(engines.values())), folder / f"{piece}.jsonl", left=left())
        else:
            on_cuda = ("--provider", "cuda", "--strict", "--precision", "fp32")
            records = run_loop(MODEL, folder / f"{piece}.jsonl", on_cuda, left())
        energy = {"this": energy_of(folder / f"{piece}.jsonl"), "CPU": energy_of(folder / "cpu.jsonl")}
        return {**compare_loops(records, reference), "joules_per_frame": energy}

    for piece in file.pieces_to_run("loop"):
        if piece == "engine" and not engines:
            file.mark("loop", piece, "skipped", "no engine is right, see above")
        else:
            _checked(file, "loop", piece, left, lambda piece=piece: compare(piece))


def _tests(file: ResultsFile, folder: Path, left: TimeLeft) -> None:
    from benchmarks.gpu_check.programs import run_gpu_tests

    try:
        file.results["tests"] = found = run_gpu_tests(folder, left())
    except Exception as error:
        file.mark("tests", "pytest", *_outcome(error, left))
        return
    counts = ", ".join(f"{count} {outcome}" for outcome, count in found["counts"].items())
    file.mark("tests", "pytest", "failed" if found["counts"]["failed"] or found["status"] else "ok", counts)


def _models(file: ResultsFile, engines: Mapping[str, Path], device: str, scale: Scale, left: TimeLeft) -> None:
    """Measure the bundled model, and record the faster head for the export command."""
    names = _with_engines(file, "models", engines)
    if not names:
        return
    skip = {**file.skipped_pieces("models"), **_without_graphs(device)}
    try:
        from benchmarks.gpu_check import models as gpu_models
    except Exception as error:  # from another library
        for name in names:
            file.mark("models", name, "failed", reason_of(error))
        return
    _measured(file, "models", names, gpu_models.configurations(scale, names, engines, skip, device), left)
    head = gpu_models.faster_head(file.results["configurations"])
    if not head:
        return
    file.results["faster_head"] = head
    file.write()
    if not file.results["quick"]:
        from iern.runtime.backends.trt.engine_file import read_manifest
        from iern.runtime.backends.trt.head_record import record_head

        tensorrt = read_manifest(next(iter(engines.values()))).tensorrt
        try:
            path = record_head(gpu_name(), tensorrt, head)
            print(f"faster TensorRT head: {head}, recorded in {path}", flush=True)
        except OutputError as error:
            print(f"faster TensorRT head: {head}, not recorded ({reason_of(error)})", flush=True)


def _sweep(file: ResultsFile, part: str, device: str, scale: Scale, left: TimeLeft) -> None:
    skip = {**file.skipped_pieces(part), **_without_graphs(device)}
    names = file.pieces_to_run(part)
    _measured(file, part, names, gpu_heads.configurations(part, scale, skip, device), left)


def _checked(file: ResultsFile, part: str, piece: str, left: TimeLeft, check: Callable[[], Results]) -> None:
    """Add what a check finds to the results of a stage, and mark its piece."""
    if not left():
        file.mark(part, piece, "not reached", "the time was up")
        return
    try:
        file.results[part][piece] = check()
    except Exception as error:  # from one piece: the others still run
        file.mark(part, piece, *_outcome(error, left))
    else:
        file.mark(part, piece, "ok")


def _outcome(error: Exception, left: TimeLeft) -> tuple[str, str]:
    """The status and the reason of a piece that ended with an error: what the time stopped has not failed."""
    return ("failed" if left() else "not reached"), reason_of(error)


def _with_engines(file: ResultsFile, part: str, engines: Mapping[str, Path]) -> list[str]:
    """The pieces of a stage that can run. Those whose engine was not built are marked as skipped."""
    for piece in file.pieces_to_run(part):
        if piece.startswith("tensorrt") and piece not in engines:
            file.mark(part, piece, "skipped", "no engine is right, see above")
    return file.pieces_to_run(part)


def _without_graphs(device: str) -> dict[str, str]:
    return {} if device == "cuda" else {GRAPH: "no GPU"}


def _measured(
    file: ResultsFile, part: str, names: Sequence[str], configurations: Iterable[Results], left: TimeLeft
) -> None:
    """Add configurations as they are measured, until the time is up, then mark the stage's pieces."""
    failed: dict[str, str] = {}
    stopped = ""
    try:
        for number, measured in enumerate(_until(configurations, left), start=1):
            file.add(measured)
            failed.update(measured["failed"])
            stopped = "" if left() else f"the time was up after size {number}"
    except Exception as error:  # the stages after it still run
        failed[part] = reason_of(error)
    for name in names:
        reasons = [
            reason if variant in (part, name) else f"{variant}: {reason}"
            for variant, reason in failed.items()
            if variant == part or piece_of(variant, names) == name
        ]
        file.mark(part, name, "failed" if reasons else "ok", reasons[0] if reasons else stopped)


def _until(configurations: Iterable[Any], left: TimeLeft) -> Iterator[Any]:
    """The configurations that begin before the time is up."""
    for measured in configurations:
        yield measured
        if not left():
            return


def piece_of(variant: str, names: Sequence[str]) -> str:
    """The piece among `names` that a variant belongs to: `exact with kernel, torch.compile` to torch.compile."""
    if sessions := [name for name in names if variant.startswith(name)]:
        return sessions[0]
    return next((name for name in ("torch.compile", "kernel") if name in variant and name in names), "torch")
