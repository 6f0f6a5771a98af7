"""The steps of a run. A step that fails is marked in the results, and the others still run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.common.results import Results
from benchmarks.gpu_check import heads as gpu_heads
from benchmarks.gpu_check.gpu_tests import run_gpu_tests
from benchmarks.gpu_check.kernel import check_tail, from_images, from_nvcc, reason_of
from benchmarks.gpu_check.machine import capability, gpu_name
from benchmarks.gpu_check.plan import Scale
from benchmarks.gpu_check.results_file import ResultsFile
from benchmarks.gpu_check.variants import GRAPH
from iern.cpp_ext.torch_operator import launch_with
from iern.runtime.errors import OutputError


def run_pieces(file: ResultsFile, folder: Path, device: str, scale: Scale) -> None:
    """Run every piece that is not skipped. `folder` is for what is built."""
    # No TF32 in FP32. cuDNN may search the fastest algorithm, since sizes do not change.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    missing = {} if device == "cuda" else {GRAPH: "no GPU"}
    if not _kernels(file, folder, device):
        for part in gpu_heads.PARTS:
            if "kernel" in file.pieces_to_run(part):
                file.mark(part, "kernel", "skipped", "no kernel is right, see above")
    for part in gpu_heads.PARTS:
        if names := file.pieces_to_run(part):
            skip = {**file.skipped_pieces(part), **missing}
            _measured(file, part, names, gpu_heads.configurations(part, scale, skip, device))
    if names := file.pieces_to_run("models"):
        _models(file, names, {**file.skipped_pieces("models"), **missing}, folder, device, scale)
    if file.pieces_to_run("tests"):
        _tests(file)


def _kernels(file: ResultsFile, folder: Path, device: str) -> bool:
    """Load and check each kernel, and register the first right one with the operator. Returns whether there is one."""
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
    return bool(right)


def _models(
    file: ResultsFile, names: Sequence[str], skip: Mapping[str, str], folder: Path, device: str, scale: Scale
) -> None:
    try:
        from benchmarks.gpu_check import models as gpu_models  # imported late: it needs more than PyTorch
    except Exception as error:  # from another library
        for name in names:
            file.mark("models", name, "failed", reason_of(error))
        return
    _measured(file, "models", names, gpu_models.configurations(scale, names, skip, device, folder))
    head = gpu_models.faster_head(file.results["configurations"], gpu_models.strata_of_bundled())
    if head:
        from iern.runtime.backends.trt.head_record import record_head  # imported late: it needs OpenCV

        file.results["faster_head"] = head
        file.write()
        if not file.results["quick"]:
            tensorrt = gpu_models.tensorrt_of(file.results["configurations"])
            try:
                path = record_head(gpu_name(), tensorrt, head)
                print(f"faster TensorRT head: {head}, recorded in {path}", flush=True)
            except OutputError as error:
                print(f"faster TensorRT head: {head}, not recorded ({reason_of(error)})", flush=True)


def _measured(file: ResultsFile, part: str, names: Sequence[str], found: Iterable[Results]) -> None:
    """Add configurations as they are measured, then mark the part's pieces."""
    failed: dict[str, str] = {}
    try:
        for measured in found:
            file.add(measured)
            failed.update(measured["failed"])
    except Exception as error:  # the parts after it still run
        failed[part] = reason_of(error)
    for name in names:
        reasons = [
            reason if variant in (part, name) else f"{variant}: {reason}"
            for variant, reason in failed.items()
            if variant == part or piece_of(variant, names) == name
        ]
        file.mark(part, name, "failed" if reasons else "ok", reasons[0] if reasons else "")


def piece_of(variant: str, names: Sequence[str]) -> str:
    """The piece among `names` that a variant belongs to: `exact with kernel, torch.compile` to torch.compile."""
    if sessions := [name for name in names if variant.startswith(name)]:
        return sessions[0]
    return next((name for name in ("torch.compile", "kernel") if name in variant and name in names), "torch")


def _tests(file: ResultsFile) -> None:
    file.results["tests"] = found = run_gpu_tests()
    counts = ", ".join(f"{count} {outcome}" for outcome, count in found["counts"].items())
    file.mark("tests", "pytest", "failed" if found["counts"]["failed"] or found["status"] else "ok", counts)
