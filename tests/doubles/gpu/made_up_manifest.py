"""The manifest of an engine that does not exist, for tests of code that reads manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from doubles.tiny_artifact import tiny_artifact
from iern.runtime.backends.trt.engine_file import EngineManifest, Gpu
from iern.runtime.system.files import sha256

ORIN = Gpu("Orin", "sm_87", "12.6")


def made_up_manifest(onnx: Path, **changes: Any) -> EngineManifest:
    """Return a manifest for an engine of the file `onnx`, which need not exist, from TensorRT 10.3 on an Orin."""
    values: dict[str, Any] = {
        "metadata": tiny_artifact().to_metadata(),
        "onnx": onnx.name,
        "onnx_sha256": sha256(onnx) if onnx.is_file() else "",
        "plan_sha256": "",
        "tail_sha256": "",
        "backend": "tensorrt",
        "tensorrt": "10.3.0",
        "head": "native",
        "precision": "fp16",
        "batches": (1, 2, 4, 8, 16),
        "workspace": 1 << 30,
        "gpu": ORIN,
    }
    return EngineManifest(**{**values, **changes})
