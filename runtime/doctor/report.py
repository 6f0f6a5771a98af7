"""Runs every check of the doctor, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from iern.runtime.bundled import MODEL
from iern.runtime.doctor import findings
from iern.runtime.doctor.findings import Finding
from iern.runtime.doctor.probes import run_probe
from iern.runtime.errors import one_line


def examine(model: Path = MODEL) -> Iterator[Finding]:
    """Yield each finding as soon as its check is done. A check that itself fails is also a finding."""
    numpy, opencv = run_probe("module", "numpy"), run_probe("cv2")
    onnxruntime, driver = run_probe("onnxruntime"), run_probe("cuda")
    checks: list[tuple[str, Callable[[], Finding | None]]] = [
        ("python", findings.python),
        ("numpy", lambda: findings.numpy(numpy)),
        ("opencv", lambda: findings.opencv(opencv, numpy)),
        ("onnxruntime", lambda: findings.onnxruntime(onnxruntime, numpy)),
        ("gpu", lambda: findings.gpu(driver)),
        ("model", lambda: findings.model(model, opencv, onnxruntime, driver)),
        ("tensorrt", findings.tensorrt),
        ("pycuda", findings.pycuda),
        ("kernel", lambda: findings.kernel(driver)),
        ("nvcc", findings.cuda_compiler),
        ("camera", findings.camera),
        ("display", lambda: findings.display(opencv)),
        ("cpu", findings.cpu),
        ("jetson", findings.jetson_board),
    ]
    for name, check in checks:
        try:
            finding = check()
        except Exception as error:  # the other checks are still useful
            text = f"this check failed ({type(error).__name__}: {one_line(error)})"
            finding = Finding(name, "note", text, "please report it with the whole output")
        if finding:
            yield finding
