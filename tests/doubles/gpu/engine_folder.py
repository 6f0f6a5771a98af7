"""Engine files for the double of TensorRT: a small network with either head, beside its exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch

from doubles.gpu.engine_double import __version__, make_plan
from doubles.tiny_network import tiny_config, tiny_network
from iern.export.graph.cut import cut_before_tail
from iern.export.graph.deconfound import deconfound
from iern.export.graph.onnx_graph import export_onnx
from iern.runtime.artifact import Artifact
from iern.runtime.backends.trt.engine_file import EngineManifest, Gpu, write_engine
from iern.runtime.system.files import sha256

GPU = Gpu("driver double", "sm_87", "12.6")
BATCHES = (1, 2, 5)

NETWORKS: dict[str, dict[str, Any]] = {
    "windowed": {},
    "pooled": {"block": "paper"},
    "mean of softmaxes": {"answer": "probabilities"},
    "single precision": {"trunk": torch.float32},
}
"""Changes to `tiny_config`, and the precision of the network before the tail."""


def make_engine(path: Path, head: str, trunk: torch.dtype = torch.float16, **changes: Any) -> None:
    """Write an engine to `path`, which ends in .engine, and its exported file beside it."""
    model = tiny_network(tiny_config(**changes))
    config = model.config
    artifact = Artifact(config.expressions, config.strata, config.input, answer=config.answer, temperature=1.7)
    network = deconfound(model, artifact.temperature, trunk=trunk)
    graph = path.with_suffix(".onnx")
    graph.write_bytes(export_onnx(network, artifact))
    content, tail = graph.read_bytes(), None
    if head == "kernel":
        trunk_alone, tail = cut_before_tail(onnx.load_from_string(content))
        content = trunk_alone.SerializeToString()
    manifest = EngineManifest(
        metadata=artifact.to_metadata(),
        onnx=graph.name,
        onnx_sha256=sha256(graph),
        plan_sha256="",
        tail_sha256="",
        backend="tensorrt",
        tensorrt=__version__,
        head=head,
        precision="fp16" if trunk == torch.float16 else "fp32",
        batches=BATCHES,
        workspace=1 << 30,
        gpu=GPU,
    )
    write_engine(path, make_plan(content, BATCHES), manifest, tail)
