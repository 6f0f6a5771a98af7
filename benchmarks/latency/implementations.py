"""Three implementations of the same computation: as published, batched over the strata, and the exported graph."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.common import turns
from iern.export.graph.deconfound import deconfound
from iern.export.graph.onnx_graph import export_onnx
from iern.runtime.artifact import Artifact
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.errors import ParityError
from iern.train.network.config import SEVEN_EXPRESSIONS, ModelConfig, from_preset
from iern.train.network.iern import IERN

FaceBatch = NDArray[np.uint8]
"""(B, S, S, 3) BGR."""
Implementation = Callable[[FaceBatch], NDArray[np.float32]]
"""(B, S, S, 3) uint8 BGR -> (B, N, E) logits under each stratum."""

PUBLISHED, BATCHED, GRAPH = "published", "batched", "graph"
IMPLEMENTATIONS = (PUBLISHED, BATCHED, GRAPH)
TOLERANCE = 1e-3
"""Largest difference between two implementations, over the range of the logits."""
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def random_network(preset: str, strata: int, **changes: int) -> IERN:
    """A preset's network with `changes`. Weights and statistics are random: speed does not depend on their values."""
    names = tuple(f"stratum {i + 1}" for i in range(strata))
    torch.manual_seed(0)
    model = IERN(from_preset(preset, expressions=SEVEN_EXPRESSIONS, strata=names, **changes))
    model.eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Some backbones start with weights of 0, which leave nothing to compare.
            module.weight.uniform_(0.5, 1.0)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def exported_file(model: IERN) -> bytes:
    """Export the network and return the content of the ONNX file."""
    config = model.config
    artifact = Artifact(config.expressions, config.strata, config.input, preset=config.preset)
    return export_onnx(deconfound(model), artifact)


def implementations(model: IERN, content: bytes, threads: int) -> tuple[dict[str, Implementation], dict[str, str]]:
    """Each implementation by name, and how it runs: those of PyTorch in the memory format that a trial finds faster."""
    face = random_faces(model.config)
    session = OnnxSession(content, provider="cpu", threads=threads)
    fastest: dict[str, Implementation] = {GRAPH: lambda batch: session(batch).stratum_logits}
    settings = {GRAPH: f"onnxruntime, {session.provider}"}
    copies = {key: copy.deepcopy(model).to(memory_format=layout) for key, layout in FORMATS.items()}
    for name, run in ((PUBLISHED, IERN.stratum_logits), (BATCHED, batched_strata)):
        by_format = {key: _in_torch(copies[key], run, FORMATS[key]) for key in FORMATS}
        trial = in_turns(by_format, face, repeats=2 * turns.CALLS_PER_TURN)
        settings[name] = min(trial, key=lambda key: float(np.median(trial[key])))
        fastest[name] = by_format[settings[name]]
    return {name: fastest[name] for name in IMPLEMENTATIONS}, {name: settings[name] for name in IMPLEMENTATIONS}


def check_agreement(compared: Mapping[str, Implementation], face: FaceBatch) -> None:
    """Raise ParityError if the logits differ: only implementations of the same computation are compared."""
    expected = compared[PUBLISHED](face)
    for name, implementation in compared.items():
        difference = float(np.abs(implementation(face) - expected).max() / np.ptp(expected))
        if not difference <= TOLERANCE:
            raise ParityError(
                f"{name}: the logits differ from the published network's by {difference:.1e} of their range, more than "
                f"{TOLERANCE}; the export or this benchmark is wrong, run the tests of both"
            )


def in_turns(
    timed: Mapping[str, Implementation],
    face: FaceBatch,
    repeats: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, list[float]]:
    """`repeats` milliseconds of each implementation, in the order measured; see `turns`."""
    calls = {name: partial(_milliseconds, implementation, face) for name, implementation in timed.items()}
    return turns.in_turns(calls, repeats, on_progress)


def sgemm_peak(size: int, repeats: int) -> float:
    """GFLOP/s of the fastest of `repeats` products of two (size, size) float32 matrices, with torch's threads."""
    left, right = torch.rand(size, size), torch.rand(size, size)
    product = torch.empty(size, size)
    torch.mm(left, right, out=product)
    return 2 * size**3 / 1e6 / min(turns.elapsed(lambda: torch.mm(left, right, out=product)) for _ in range(repeats))


def random_faces(config: ModelConfig, batch: int = 1) -> FaceBatch:
    """(batch, S, S, 3) random pixels: speed does not depend on the picture."""
    return np.random.default_rng(0).integers(0, 256, (batch, *config.input.shape), dtype=np.uint8)


def _milliseconds(implementation: Implementation, face: FaceBatch) -> float:
    return turns.elapsed(lambda: implementation(face))


def _in_torch(model: IERN, run: Callable[[IERN, Tensor], Tensor], layout: torch.memory_format) -> Implementation:
    def implementation(batch: FaceBatch) -> NDArray[np.float32]:
        with torch.inference_mode():
            image = model.normalise(torch.from_numpy(batch)).contiguous(memory_format=layout)
            return run(model, image).numpy()

    return implementation


def batched_strata(model: IERN, image: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, N, E): g_r runs once, on B * N maps."""
    strata = len(model.config.strata)
    emotion = model.emotion(image).repeat_interleave(strata, dim=0)
    context = model.confounders.repeat(len(image), 1, 1, 1)
    return model.classifier(model.reconstruction(emotion, context)).unflatten(0, (-1, strata))
