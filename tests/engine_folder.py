"""Engines for TensorRT's double, as files: a small network under either head, beside its exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnx.shape_inference
import onnx.utils
import torch

from engine_double import __version__, make_plan
from iern.export.deconfound import WindowSumTail, deconfound
from iern.export.to_onnx import TAIL_INPUTS, export_onnx
from iern.runtime.artifact import INPUT_NAME, Artifact
from iern.runtime.engine_file import Gpu, Manifest, TailWeights, write_engine
from iern.runtime.files import sha256
from iern.train.model import Baseline
from tiny_network import tiny_config, tiny_network

GPU = Gpu("driver double", "sm_87", "12.6")
BATCHES = (1, 2, 5)

NETWORKS: dict[str, dict[str, Any]] = {
    "windowed": {},
    "pooled": {"block": "paper"},
    "mean of softmaxes": {"answer": "probabilities"},
    "single precision": {"trunk": torch.float32},
}
"""changes to `tiny_config`, and the precision of what stands before the tail"""


def make_engine(path: Path, head: str, trunk: torch.dtype = torch.float16, **changes: Any) -> None:
    """An engine at `path`, a name that ends in .engine, and its exported file beside it."""
    model = tiny_network(tiny_config(**changes))
    config = model.config
    artifact = Artifact(config.expressions, config.strata, config.input, answer=config.answer, temperature=1.7)
    network = deconfound(model, artifact.temperature, trunk=trunk)
    graph = path.with_suffix(".onnx")
    graph.write_bytes(export_onnx(network, artifact))
    tail = tail_weights(model) if head == "kernel" else None
    content = graph.read_bytes() if tail is None else trunk_of(graph.read_bytes(), windowed=tail.weight.shape[2] > 1)
    manifest = Manifest(
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


def trunk_of(graph: bytes, windowed: bool) -> bytes:
    """The graph up to the maps around the last ReLU."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    outputs = list(TAIL_INPUTS if windowed else TAIL_INPUTS[:1])
    return onnx.utils.Extractor(model).extract_model([INPUT_NAME], outputs).SerializeToString()


def tail_weights(model: Baseline) -> TailWeights:
    """The network's own, from its tail in float64."""
    tail = deconfound(model, dtype=torch.float64).tail
    size = model.config.image_size // model.config.stride
    if isinstance(tail, WindowSumTail):
        of_mean = tail.of_mean.weight / size**2
        weight = torch.cat([of_mean[..., None], tail.of_windows.weight.unflatten(1, (-1, 9))], dim=2)
        bias = tail.of_windows.bias
    else:
        weight, bias = tail.classifier.linear.weight[..., None] / size**2, tail.classifier.linear.bias
    return TailWeights(weight.float().numpy(), bias.float().numpy())
