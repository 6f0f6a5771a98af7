"""Three ways to the same answer: as published, batched over the strata, and the exported graph; timed in turns."""

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

Faces = NDArray[np.uint8]
Way = Callable[[Faces], NDArray[np.float32]]
"""(B, S, S, 3) uint8 BGR -> (B, N, E) logits under each stratum."""

PUBLISHED, BATCHED, GRAPH = "published", "batched", "graph"
WAYS = (PUBLISHED, BATCHED, GRAPH)
AGREEMENT = 1e-3
"""Largest difference between two ways, over the range of the logits: they must compute the same to be compared."""
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def network(preset: str, strata: int, **changes: int) -> IERN:
    """A preset's network, `changes` made, its weights and statistics random: speed does not depend on their values."""
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


def export(model: IERN) -> bytes:
    """The network as an ONNX file's content."""
    config = model.config
    artifact = Artifact(config.expressions, config.strata, config.input, preset=config.preset)
    return export_onnx(deconfound(model), artifact)


def ways(model: IERN, content: bytes, threads: int) -> tuple[dict[str, Way], dict[str, str]]:
    """Each way by name, and how it runs: the torch ways in the memory format that is faster here, by trial."""
    face = faces(model.config)
    session = OnnxSession(content, provider="cpu", threads=threads)
    chosen: dict[str, Way] = {GRAPH: lambda batch: session(batch).stratum_logits}
    settings = {GRAPH: f"onnxruntime, {session.provider}"}
    copies = {key: copy.deepcopy(model).to(memory_format=layout) for key, layout in FORMATS.items()}
    for name, run in ((PUBLISHED, IERN.stratum_logits), (BATCHED, batched_strata)):
        formats = {key: _torch_way(copies[key], run, FORMATS[key]) for key in FORMATS}
        trial = in_turns(formats, face, repeats=2 * turns.TURN)
        settings[name] = min(trial, key=lambda key: float(np.median(trial[key])))
        chosen[name] = formats[settings[name]]
    return {name: chosen[name] for name in WAYS}, {name: settings[name] for name in WAYS}


def check_agreement(named: Mapping[str, Way], face: Faces) -> None:
    """Raise ParityError where the ways do not answer alike: a wrong answer's speed is worth nothing."""
    expected = named[PUBLISHED](face)
    for name, way in named.items():
        difference = float(np.abs(way(face) - expected).max() / np.ptp(expected))
        if not difference <= AGREEMENT:
            raise ParityError(
                f"{name}: logits differ by {difference:.1e} of their range from the published way, over {AGREEMENT}; "
                "the export or this benchmark is wrong, run the tests of both"
            )


def in_turns(
    named: Mapping[str, Way], face: Faces, repeats: int, tell: Callable[[int], None] = lambda done: None
) -> dict[str, list[float]]:
    """`repeats` milliseconds of each way, in the order measured; see `turns`."""
    calls = {name: partial(_milliseconds, way, face) for name, way in named.items()}
    return turns.in_turns(calls, repeats, tell)


def sgemm_peak(size: int, repeats: int) -> float:
    """GFLOP/s of the fastest of `repeats` products of two (size, size) float32 matrices, with torch's threads."""
    left, right = torch.rand(size, size), torch.rand(size, size)
    product = torch.empty(size, size)
    torch.mm(left, right, out=product)
    return 2 * size**3 / 1e6 / min(turns.elapsed(lambda: torch.mm(left, right, out=product)) for _ in range(repeats))


def faces(config: ModelConfig, batch: int = 1) -> Faces:
    """(batch, S, S, 3) random pixels: speed does not depend on the picture."""
    return np.random.default_rng(0).integers(0, 256, (batch, *config.input.shape), dtype=np.uint8)


def _milliseconds(way: Way, face: Faces) -> float:
    return turns.elapsed(lambda: way(face))


def _torch_way(model: IERN, run: Callable[[IERN, Tensor], Tensor], layout: torch.memory_format) -> Way:
    def way(batch: Faces) -> NDArray[np.float32]:
        with torch.inference_mode():
            image = model.normalise(torch.from_numpy(batch)).contiguous(memory_format=layout)
            return run(model, image).numpy()

    return way


def batched_strata(model: IERN, image: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, N, E): g_r runs once, on B * N maps."""
    strata = len(model.config.strata)
    emotion = model.emotion(image).repeat_interleave(strata, dim=0)
    context = model.confounders.repeat(len(image), 1, 1, 1)
    return model.classifier(model.reconstruction(emotion, context)).unflatten(0, (-1, strata))
