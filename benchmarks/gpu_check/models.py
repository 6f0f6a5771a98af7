"""Whole networks on a GPU, from faces to probabilities: PyTorch, onnxruntime and TensorRT with either head, in turns.

The network is the bundled one. For another number of strata its centres are repeated with a little noise, so that the
exporter still checks a trained network.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import ROOT, environment
from benchmarks.common.results import Results
from benchmarks.gpu_check.implementations import outputs_of
from benchmarks.gpu_check.kernel import reason_of
from benchmarks.gpu_check.plan import Scale
from benchmarks.gpu_check.timing import CallTimes, HostEvent, measure
from benchmarks.gpu_check.variants import prepare, with_samples
from benchmarks.latency.implementations import batched_strata, exported_file, random_faces
from iern.export.graph.deconfound import deconfound
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.trt.engine_file import read_manifest
from iern.runtime.backends.trt.session import TensorRtSession
from iern.runtime.errors import EngineError
from iern.runtime.session import Session
from iern.train.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from iern.train.network.iern import IERN, build

BUNDLED = ROOT / "runtime" / "models" / "iern_edge.pt"
TOLERANCE = 3e-2
"""The largest difference of probabilities from onnxruntime on the CPU in FP32: TF32 and FP16 have 10 bits."""
NOISE = 0.1
"""Noise of repeated centres, over their standard deviation."""
TENSORRT = {"tensorrt native": "native", "tensorrt kernel": "kernel"}
"""The pieces and their heads."""
WITHOUT_GRAPH = ", no CUDA graph"
"""The end of the name of the variant that enqueues an engine's work without a CUDA graph."""
LARGEST_BATCH = 16


class Published(nn.Module):
    """The published network, from faces."""

    def __init__(self, model: IERN) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, S, S, 3) uint8 -> probabilities, logits and stratum logits."""
        return outputs_of(self.model.stratum_logits(self.model.normalise(image)))


class Batched(Published):
    """The published network with one call of g_r for all strata."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, S, S, 3) uint8 -> probabilities, logits and stratum logits."""
        return outputs_of(batched_strata(self.model, self.model.normalise(image)))


class SessionCall:
    """A session that is called repeatedly with the same faces."""

    def __init__(self, session: Session, batch: np.ndarray, device: str) -> None:
        self._session, self._batch = session, batch
        self._events = [torch.cuda.Event(enable_timing=True) if device == "cuda" else HostEvent() for _ in range(2)]

    def __call__(self) -> CallTimes:
        """Make and time one call. The events are around all of it, since the session itself waits for its outputs."""
        first, second = self._events
        first.record()
        start = time.perf_counter()
        self._session(self._batch)
        end = time.perf_counter()
        second.record()
        if isinstance(second, torch.cuda.Event):
            second.synchronize()
        return CallTimes(1000 * (end - start), first.elapsed_time(second), None)

    def outputs(self) -> list[np.ndarray]:
        """Call once and return probabilities, logits and stratum logits."""
        predictions = self._session(self._batch)
        return [predictions.probabilities, predictions.logits, predictions.stratum_logits]


def network_with_strata(strata: int) -> IERN:
    """The bundled network with a number of strata, in eval mode."""
    trained = load_checkpoint(BUNDLED)
    centres = trained.weights["confounders"]
    names = tuple(f"stratum {i + 1}" for i in range(strata))
    torch.manual_seed(strata)
    model = build(dataclasses.replace(trained.config, strata=names))
    assert isinstance(model, IERN), "the bundled network has strata"
    repeated = centres[torch.arange(strata) % len(centres)].clone()
    repeated[len(centres) :] += NOISE * centres.std() * torch.randn_like(repeated[len(centres) :])
    # The context discriminator has an output for each stratum, and is not used for predictions.
    kept = {name: value for name, value in trained.weights.items() if not name.startswith("context_discriminator")}
    model.load_state_dict({**model.state_dict(), **kept, "confounders": repeated})
    return model.eval().requires_grad_(False)


def strata_of_bundled() -> int:
    """N, the number of strata of the bundled network."""
    return len(load_checkpoint(BUNDLED).config.strata)


def configurations(
    scale: Scale, pieces: Collection[str], skip: Mapping[str, str], device: str, folder: Path
) -> Iterator[Results]:
    """Measure every number of strata and batch, one after another.

    `pieces` are those of the plan that run, `skip` holds why modes are skipped, and `folder` is for the engines.
    """
    for strata in scale.strata:
        model = network_with_strata(strata)
        exported = exported_file(model)
        with contextlib.ExitStack() as stack:
            reference = stack.enter_context(open_session(exported, "cpu"))
            sessions, not_opened = _sessions(model, exported, pieces, device, folder, stack)
            for batch in scale.batches:
                image = random_faces(model.config, batch)
                expected = reference(image).probabilities

                def check(outputs: list[np.ndarray], expected: np.ndarray = expected) -> Results:
                    return {"probability_error": probability_error(outputs[0], expected)}

                implementations = torch_implementations(model) if "torch" in pieces else {}
                calls, facts, failed = prepare(implementations, (torch.from_numpy(image),), check, skip, device)
                failed.update(not_opened)
                for name, (session, taken) in sessions.items():
                    call = SessionCall(session, image, device)
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
                    "strata": strata,
                    "batch": batch,
                    "variants": with_samples(facts, samples),
                    "failed": failed,
                }


def torch_implementations(model: IERN) -> dict[str, nn.Module]:
    """The implementations of the network in PyTorch, from faces, on the CPU."""
    return {
        "published FP32": Published(model),
        "batched FP32": Batched(model),
        "exact FP32": deconfound(model),
        "exact FP16": deconfound(model, trunk=torch.float16),
    }


def probability_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of probabilities. Raises EngineError if it is over TOLERANCE or not a number."""
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise EngineError(
            f"probabilities differ by {difference:.1e} from onnxruntime on the CPU, more than {TOLERANCE}: not timed"
        )
    return difference


def faster_head(configurations: Collection[Results], strata: int) -> str:
    """`native` or `kernel`, by the median GPU time at batch 1; empty if one of them was not timed."""
    for measured in configurations:
        if (measured["part"], measured["strata"], measured["batch"]) == ("models", strata, 1):
            variants = measured["variants"]
            if all("statistics" in variants.get(piece, {}) for piece in TENSORRT):
                return TENSORRT[min(TENSORRT, key=lambda piece: variants[piece]["statistics"]["gpu"]["median"])]
    return ""


def tensorrt_of(configurations: Collection[Results]) -> str:
    """The version of TensorRT whose engines were measured; empty if none was measured."""
    facts = (variant for measured in configurations for variant in measured["variants"].values())
    return next((variant["tensorrt"] for variant in facts if "tensorrt" in variant), "")


def _sessions(
    model: IERN, exported: bytes, pieces: Collection[str], device: str, folder: Path, stack: contextlib.ExitStack
) -> tuple[dict[str, tuple[Session, Results]], dict[str, str]]:
    """Sessions on the GPU with their costs, and why others failed to open. The stack closes the sessions."""
    opened, failed = {}, {}
    for piece in ("onnxruntime", *TENSORRT):
        if piece in pieces:
            try:
                for name, session, facts in _opened(piece, model, exported, folder, device):
                    opened[name] = stack.enter_context(session), facts
            except Exception as error:  # from one backend: the others are measured
                failed[piece] = reason_of(error)
    return opened, failed


def _opened(
    piece: str, model: IERN, exported: bytes, folder: Path, device: str
) -> Iterator[tuple[str, Session, Results]]:
    """The variants of a piece: name, session on the GPU, and its costs. Raises IernError."""
    if piece not in TENSORRT:
        yield piece, *_timed(lambda: open_session(exported, "cuda", strict=True, max_batch=LARGEST_BATCH), device)
        return
    start = time.perf_counter()
    path = build_engine(model, TENSORRT[piece], folder / f"{piece.replace(' ', '_')}_{len(model.config.strata)}")
    built = {
        "build_seconds": round(time.perf_counter() - start, 1),
        "plan_bytes": path.stat().st_size,
        "tensorrt": read_manifest(path).tensorrt,
    }
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


def build_engine(model: IERN, head: str, folder: Path) -> Path:
    """Build an engine with the export command. Raises EngineError with the command's message."""
    folder.mkdir(parents=True)
    checkpoint = folder / "network.pt"
    save_checkpoint(Checkpoint(model.config, model.state_dict()), checkpoint)
    options = [
        "--backend",
        "auto",
        "--head",
        head,
        "--max-batch",
        str(LARGEST_BATCH),
        "-o",
        str(folder / "network.onnx"),
    ]
    command = [sys.executable, "-m", "iern.export.to_trt", str(checkpoint), *options]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    built = sorted(folder.glob("*.engine"))
    if done.returncode or not built:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise EngineError(f"export/to_trt.py, status {done.returncode}: {lines[-1].removeprefix('error: ')}")
    return built[0]


def _free(device: str) -> int:
    """Free bytes of the GPU's memory, of all processes; 0 on the CPU."""
    if device != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()[0]
