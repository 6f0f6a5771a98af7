"""The bundled network on a GPU, from face to probabilities: PyTorch, onnxruntime and TensorRT take turns."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common.results import Results
from benchmarks.gpu_check.implementations import outputs_of
from benchmarks.gpu_check.kernel import reason_of
from benchmarks.gpu_check.plan import Scale
from benchmarks.gpu_check.replay import LARGEST_BATCH, probability_error
from benchmarks.gpu_check.timing import CallTimes, measure
from benchmarks.gpu_check.variants import COMPILED, EAGER, GRAPH, prepare, with_samples
from benchmarks.latency.implementations import random_faces
from iern.export.graph.deconfound import deconfound
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.trt.engine_file import read_manifest
from iern.runtime.backends.trt.session import TensorRtSession
from iern.runtime.bundled import MODEL
from iern.runtime.session import Session
from iern.train.network.checkpoint import load_checkpoint
from iern.train.network.iern import IERN, build

TENSORRT = {"tensorrt native": "native", "tensorrt kernel": "kernel"}
"""The pieces and their heads."""
WITHOUT_GRAPH = ", no CUDA graph"
"""The end of the name of the variant that enqueues an engine's work without a CUDA graph."""
PUBLISHED, EXACT = "published FP32", "exact FP16"
MODES = {PUBLISHED: (EAGER, COMPILED), EXACT: (EAGER, GRAPH)}
"""The modes in which each is measured. `python -m benchmarks.gpu_check --only heads` has all of them."""


class Published(nn.Module):
    """The published network, from faces."""

    def __init__(self, model: IERN, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, S, S, 3) uint8 -> probabilities, logits and stratum logits."""
        return outputs_of(self.model.stratum_logits(self.model.normalise(image)), self.temperature)


class SessionCall:
    """A session that is called repeatedly with the same faces."""

    def __init__(self, session: Session, batch: np.ndarray) -> None:
        self._session, self._batch = session, batch

    def __call__(self) -> CallTimes:
        """Make and time one call. Only a TensorRT session has events: on its own stream, with its copies."""
        start = time.perf_counter()
        gpu = None
        if isinstance(self._session, TensorRtSession):
            gpu = self._session.timed(self._batch)[1]
        else:
            self._session(self._batch)
        return CallTimes(1000 * (time.perf_counter() - start), gpu, None)

    def outputs(self) -> list[np.ndarray]:
        """Call once and return probabilities, logits and stratum logits."""
        predictions = self._session(self._batch)
        return [predictions.probabilities, predictions.logits, predictions.stratum_logits]


def bundled_network() -> IERN:
    """The bundled network as it was trained, in eval mode."""
    trained = load_checkpoint(MODEL.with_suffix(".pt"))
    model = build(trained.config)
    assert isinstance(model, IERN), "the bundled network has strata"
    model.load_state_dict(trained.weights)
    return model.eval().requires_grad_(False)


def configurations(
    scale: Scale, pieces: Collection[str], engines: Mapping[str, Path], skip: Mapping[str, str], device: str
) -> Iterator[Results]:
    """Measure every batch, one after another.

    `pieces` are those of the plan that run, `engines` are built from the shipped file, by piece, and `skip` holds why
    modes are skipped.
    """
    model = bundled_network()
    with contextlib.ExitStack() as stack:
        reference = stack.enter_context(open_session(MODEL, "cpu"))
        sessions, not_opened = _sessions(pieces, engines, device, stack)
        for batch in scale.batches:
            image = random_faces(model.config, batch)
            expected = reference(image).probabilities

            def check(outputs: list[np.ndarray], expected: np.ndarray = expected) -> Results:
                return {"probability_error": probability_error(outputs[0], expected)}

            temperature = reference.artifact.temperature
            implementations = torch_implementations(model, temperature) if "torch" in pieces else {}
            calls, facts, failed = prepare(implementations, (torch.from_numpy(image),), check, skip, device, MODES)
            failed.update(not_opened)
            for name, (session, taken) in sessions.items():
                call = SessionCall(session, image)
                try:
                    facts[name] = {**taken, **check(call.outputs())}
                except Exception as error:  # from one backend: the others are measured
                    failed[name] = reason_of(error)
                else:
                    calls[name] = call
            samples = measure(calls, scale.most, scale.least, scale.seconds)
            yield {
                "part": "models",
                "preset": model.config.preset,
                "precision": "",
                "strata": len(model.config.strata),
                "batch": batch,
                "variants": with_samples(facts, samples),
                "failed": failed,
            }


def torch_implementations(model: IERN, temperature: float) -> dict[str, nn.Module]:
    """The implementations of the network in PyTorch, from faces, on the CPU."""
    return {PUBLISHED: Published(model, temperature), EXACT: deconfound(model, temperature, trunk=torch.float16)}


def faster_head(configurations: Collection[Results]) -> str:
    """`native` or `kernel`, by the median GPU time of the bundled model with one face; empty if one was not timed."""
    for measured in configurations:
        if (measured["part"], measured["batch"]) == ("models", 1):
            clocks = {piece: measured["variants"].get(piece, {}).get("statistics", {}) for piece in TENSORRT}
            if all("gpu" in clock for clock in clocks.values()):
                return TENSORRT[min(clocks, key=lambda piece: clocks[piece]["gpu"]["median"])]
    return ""


def _sessions(
    pieces: Collection[str], engines: Mapping[str, Path], device: str, stack: contextlib.ExitStack
) -> tuple[dict[str, tuple[Session, Results]], dict[str, str]]:
    """Sessions on the GPU with their costs, and why others failed to open. The stack closes the sessions."""
    opened, failed = {}, {}
    for piece in ("onnxruntime", *TENSORRT):
        if piece in pieces:
            try:
                for name, session, facts in _opened(piece, engines, device):
                    opened[name] = stack.enter_context(session), facts
            except Exception as error:  # from one backend: the others are measured
                failed[piece] = reason_of(error)
    return opened, failed


def _opened(piece: str, engines: Mapping[str, Path], device: str) -> Iterator[tuple[str, Session, Results]]:
    """The variants of a piece: name, session on the GPU, and its costs. Raises IernError."""
    if piece not in TENSORRT:
        yield piece, *_timed(lambda: open_session(MODEL, "cuda", strict=True, max_batch=LARGEST_BATCH), device)
        return
    path = engines[piece]
    built = {"plan_bytes": path.stat().st_size, "tensorrt": read_manifest(path).tensorrt}
    for name, graph in ((piece, True), (piece + WITHOUT_GRAPH, False)):
        session, facts = _timed(lambda graph=graph: TensorRtSession(path, LARGEST_BATCH, graph), device)
        yield name, session, {**built, **facts}


def _timed(open_one: Callable[[], Session], device: str) -> tuple[Session, Results]:
    """Open a session and return it with the time and memory that this took."""
    before, start = _free(device), time.perf_counter()
    session = open_one()
    seconds = round(time.perf_counter() - start, 2)
    return session, {
        "load_seconds": seconds,
        "memory_bytes": before - _free(device),
        "runs_as": session.provider,
        "note": session.note,
    }


def _free(device: str) -> int:
    """Free bytes of the GPU's memory, of all processes; 0 on the CPU."""
    if device != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()[0]
