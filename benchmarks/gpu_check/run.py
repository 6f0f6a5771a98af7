"""The steps of gpu_check.py. What fails is marked in the record, and the rest runs on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.gpu_check import gpu_tests as gpu_pytest
from benchmarks.gpu_check import heads as gpu_heads
from benchmarks.gpu_check.kernel import check_tail, from_images, from_nvcc, reason_of
from benchmarks.gpu_check.machine import capability, gpu_name
from benchmarks.gpu_check.plan import Scale
from benchmarks.gpu_check.record import Run, say
from benchmarks.gpu_check.variants import GRAPH, Record
from iern.cpp_ext.torch_operator import launch_with


def run_pieces(run: Run, folder: Path, device: str, scale: Scale) -> None:
    """Everything that the record does not say is skipped; `folder` takes what is built."""
    # FP32 means FP32, and cuDNN may look for the fastest algorithm: sizes do not change.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    lacking = {} if device == "cuda" else {GRAPH: "no GPU"}
    if not _kernels(run, folder, device):
        for part in gpu_heads.PARTS:
            if "kernel" in run.reached(part):
                run.mark(part, "kernel", "skipped", "no kernel answers right, see above")
    for part in gpu_heads.PARTS:
        if names := run.reached(part):
            skip = {**run.skipped(part), **lacking}
            _measured(run, part, names, gpu_heads.configurations(part, scale, skip, device))
    if names := run.reached("models"):
        _models(run, names, {**run.skipped("models"), **lacking}, folder, device, scale)
    if run.reached("tests"):
        _tests(run)


def _kernels(run: Run, folder: Path, device: str) -> bool:
    """Check each way to the kernel, and leave the first good one with the operator -> whether there is one."""
    ways = {"nvcc": lambda: from_nvcc(folder, capability()), "image": lambda: from_images(capability())}
    good = []
    for name in run.reached("kernel"):
        try:
            launch = ways[name]()
            launch_with(device, launch)
            run.record["kernel"][name] = check_tail(device)
        except Exception as error:  # one way's failure leaves the other
            run.mark("kernel", name, "failed", reason_of(error))
        else:
            good.append(launch)
            run.mark("kernel", name, "ok")
    if good:
        launch_with(device, good[0])
    return bool(good)


def _models(run: Run, names: Sequence[str], skip: Mapping[str, str], folder: Path, device: str, scale: Scale) -> None:
    try:
        from benchmarks.gpu_check import models as gpu_models  # late: it needs more than PyTorch
    except Exception as error:  # of a library of others
        for name in names:
            run.mark("models", name, "failed", reason_of(error))
        return
    _measured(run, "models", names, gpu_models.configurations(scale, names, skip, device, folder))
    head = gpu_models.faster_head(run.record["configurations"], gpu_models.strata_of_bundled())
    if head:
        from iern.runtime.backends.trt.head_record import record_head  # late: it needs OpenCV

        run.record["faster_head"] = head
        run.write()
        if not run.record["quick"]:
            tensorrt = gpu_models.tensorrt_of(run.record["configurations"])
            try:
                say(f"faster TensorRT head: {head}, remembered in {record_head(gpu_name(), tensorrt, head)}")
            except OSError as error:
                say(f"faster TensorRT head: {head}, not remembered ({reason_of(error)})")


def _measured(run: Run, part: str, names: Sequence[str], found: Iterable[Record]) -> None:
    """Keep configurations as they come, then say what became of the part's pieces."""
    failed: dict[str, str] = {}
    try:
        for measured in found:
            run.add(measured)
            failed.update(measured["failed"])
    except Exception as error:  # the parts behind still run
        failed[part] = reason_of(error)
    for name in names:
        mine = [
            reason if variant in (part, name) else f"{variant}: {reason}"
            for variant, reason in failed.items()
            if variant == part or piece_of(variant, names) == name
        ]
        run.mark(part, name, "failed" if mine else "ok", mine[0] if mine else "")


def piece_of(variant: str, names: Sequence[str]) -> str:
    """The piece among `names` that a variant belongs to: `exact with kernel, torch.compile` to torch.compile."""
    if own := [name for name in names if variant.startswith(name)]:
        return own[0]
    return next((name for name in ("torch.compile", "kernel") if name in variant and name in names), "torch")


def _tests(run: Run) -> None:
    run.record["tests"] = found = gpu_pytest.run()
    told = ", ".join(f"{count} {outcome}" for outcome, count in found["counts"].items())
    run.mark("tests", "pytest", "failed" if found["counts"]["failed"] or found["status"] else "ok", told)
