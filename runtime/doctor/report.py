"""Every finding about this machine, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from iern.runtime.bundled import MODEL
from iern.runtime.doctor import findings as about
from iern.runtime.doctor.findings import Finding
from iern.runtime.doctor.probes import ask
from iern.runtime.errors import one_line


def examine(model: Path = MODEL) -> Iterator[Finding]:
    """Every finding, as it is found. A check that itself fails is a finding."""
    numpy, opencv, engine, driver = ask("module", "numpy"), ask("cv2"), ask("onnxruntime"), ask("cuda")
    checks: list[tuple[str, Callable[[], Finding | None]]] = [
        ("python", about.python),
        ("numpy", lambda: about.numpy(numpy)),
        ("opencv", lambda: about.opencv(opencv, numpy)),
        ("onnxruntime", lambda: about.onnxruntime(engine, numpy)),
        ("gpu", lambda: about.gpu(driver)),
        ("model", lambda: about.model(model, opencv, engine, driver)),
        ("tensorrt", about.tensorrt),
        ("pycuda", about.pycuda),
        ("kernel", lambda: about.kernel(driver)),
        ("nvcc", about.cuda_compiler),
        ("camera", about.camera),
        ("display", lambda: about.display(opencv)),
        ("cpu", about.cpu),
        ("jetson", about.jetson_board),
    ]
    for name, check in checks:
        try:
            finding = check()
        except Exception as error:  # a report with one gap is worth more than none
            text = f"this check failed ({type(error).__name__}: {one_line(error)})"
            finding = Finding(name, "note", text, "please report it with the whole output")
        if finding:
            yield finding
