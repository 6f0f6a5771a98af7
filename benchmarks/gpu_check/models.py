"""Whole networks on a GPU, from faces to probabilities: PyTorch, onnxruntime and TensorRT with either head, in turns.

The network is the bundled one. For another number of strata its centres are repeated with a little noise, so that the
gates of the exporter still meet a network that knows expressions.
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
from benchmarks.gpu_check.forms import answered
from benchmarks.gpu_check.kernel import reason_of
from benchmarks.gpu_check.plan import Scale
from benchmarks.gpu_check.timing import HostEvent, Sample, measure
from benchmarks.gpu_check.variants import Record, prepare, with_samples
from benchmarks.latency.forms import batched_strata, export, faces
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
"""Largest difference of probabilities from onnxruntime on the CPU in single precision: TF32 has 10 bits, as FP16."""
NOISE = 0.1
"""Of repeated centres, over their own deviation."""
TENSORRT = {"tensorrt native": "native", "tensorrt kernel": "kernel"}
"""Piece -> head."""
WITHOUT_GRAPH = ", no CUDA graph"
"""Ends the name of the variant that sends an engine's work piece by piece."""
LARGEST = 16


class Published(nn.Module):
    """A network as published, from faces."""

    def __init__(self, model: IERN) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, S, S, 3) uint8 -> the answer."""
        return answered(self.model.stratum_logits(self.model.normalise(image)))


class Batched(Published):
    """The same with one call of g_r for all strata."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, S, S, 3) uint8 -> the answer."""
        return answered(batched_strata(self.model, self.model.normalise(image)))


class SessionCall:
    """A session called with the same faces again and again. What it enqueues when is its own."""

    def __init__(self, session: Session, batch: np.ndarray, device: str) -> None:
        self._session, self._batch = session, batch
        self._events = [torch.cuda.Event(enable_timing=True) if device == "cuda" else HostEvent() for _ in range(2)]

    def __call__(self) -> Sample:
        """One timed call; the events lie around all of it, since the session waits for its answer itself."""
        first, second = self._events
        first.record()
        start = time.perf_counter()
        self._session(self._batch)
        end = time.perf_counter()
        second.record()
        if isinstance(second, torch.cuda.Event):
            second.synchronize()
        return Sample(1000 * (end - start), first.elapsed_time(second), None)

    def answer(self) -> list[np.ndarray]:
        """Probabilities, logits and stratum logits."""
        answer = self._session(self._batch)
        return [answer.probabilities, answer.logits, answer.stratum_logits]


def network(strata: int) -> IERN:
    """The bundled network for a number of strata, in eval mode."""
    trained = load_checkpoint(BUNDLED)
    centres = trained.weights["confounders"]
    names = tuple(f"stratum {i + 1}" for i in range(strata))
    torch.manual_seed(strata)
    model = build(dataclasses.replace(trained.config, strata=names))
    assert isinstance(model, IERN), "the bundled network has strata"
    chosen = centres[torch.arange(strata) % len(centres)].clone()
    chosen[len(centres) :] += NOISE * centres.std() * torch.randn_like(chosen[len(centres) :])
    # The discriminator of the context has an output for each stratum, and no part in the answer.
    kept = {name: value for name, value in trained.weights.items() if not name.startswith("context_discriminator")}
    model.load_state_dict({**model.state_dict(), **kept, "confounders": chosen})
    return model.eval().requires_grad_(False)


def strata_of_bundled() -> int:
    """N of the bundled network."""
    return len(load_checkpoint(BUNDLED).config.strata)


def configurations(
    scale: Scale, pieces: Collection[str], skip: Mapping[str, str], device: str, folder: Path
) -> Iterator[Record]:
    """Every number of strata and batch, one after another.

    `pieces` are those of the plan that run, `skip` says of modes why not, and `folder` takes the engines.
    """
    for strata in scale.strata:
        model = network(strata)
        exported = export(model)
        with contextlib.ExitStack() as stack:
            judge = stack.enter_context(open_session(exported, "cpu"))
            sessions, broken = _sessions(model, exported, pieces, device, folder, stack)
            for batch in scale.batches:
                image = faces(model.config, batch)
                expected = judge(image).probabilities

                def check(answer: list[np.ndarray], expected: np.ndarray = expected) -> Record:
                    return {"probability_error": agreed(answer[0], expected)}

                forms = torch_forms(model) if "torch" in pieces else {}
                calls, facts, failed = prepare(forms, (torch.from_numpy(image),), check, skip, device)
                failed.update(broken)
                for name, (session, own) in sessions.items():
                    call = SessionCall(session, image, device)
                    try:
                        facts[name] = {**own, **check(call.answer())}
                    except Exception as error:  # of one backend: the others are measured
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


def torch_forms(model: IERN) -> dict[str, nn.Module]:
    """The network in PyTorch, from faces, on the CPU."""
    return {
        "published FP32": Published(model),
        "batched FP32": Batched(model),
        "exact FP32": deconfound(model),
        "exact FP16": deconfound(model, trunk=torch.float16),
    }


def agreed(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference of probabilities. Raises EngineError where it is over TOLERANCE, or no number."""
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise EngineError(
            f"probabilities differ by {difference:.1e} from onnxruntime on the CPU, over {TOLERANCE}: not timed"
        )
    return difference


def faster_head(configurations: Collection[Record], strata: int) -> str:
    """`native` or `kernel`, by the median GPU time at batch 1; empty where one of them was not timed."""
    for measured in configurations:
        if (measured["part"], measured["strata"], measured["batch"]) == ("models", strata, 1):
            variants = measured["variants"]
            if all("statistics" in variants.get(piece, {}) for piece in TENSORRT):
                return TENSORRT[min(TENSORRT, key=lambda piece: variants[piece]["statistics"]["gpu"]["median"])]
    return ""


def tensorrt_of(configurations: Collection[Record]) -> str:
    """The version of TensorRT whose engines were measured; empty where none were."""
    facts = (variant for measured in configurations for variant in measured["variants"].values())
    return next((variant["tensorrt"] for variant in facts if "tensorrt" in variant), "")


def _sessions(
    model: IERN, exported: bytes, pieces: Collection[str], device: str, folder: Path, stack: contextlib.ExitStack
) -> tuple[dict[str, tuple[Session, Record]], dict[str, str]]:
    """Sessions on the GPU with what they took, and why others are not there; the stack closes them."""
    opened, failed = {}, {}
    for piece in ("onnxruntime", *TENSORRT):
        if piece in pieces:
            try:
                for name, session, facts in _opened(piece, model, exported, folder, device):
                    opened[name] = stack.enter_context(session), facts
            except Exception as error:  # of one backend: the others are measured
                failed[piece] = reason_of(error)
    return opened, failed


def _opened(
    piece: str, model: IERN, exported: bytes, folder: Path, device: str
) -> Iterator[tuple[str, Session, Record]]:
    """Variants of a piece: name, session on the GPU, and what it took. Raises IernError."""
    if piece not in TENSORRT:
        yield piece, *_timed(lambda: open_session(exported, "cuda", strict=True, max_batch=LARGEST), device)
        return
    start = time.perf_counter()
    path = engine(model, TENSORRT[piece], folder / f"{piece.replace(' ', '_')}_{len(model.config.strata)}")
    built = {
        "build_seconds": round(time.perf_counter() - start, 1),
        "plan_bytes": path.stat().st_size,
        "tensorrt": read_manifest(path).tensorrt,
    }
    for name, graph in ((piece, True), (piece + WITHOUT_GRAPH, False)):
        session, facts = _timed(lambda graph=graph: TensorRtSession(path, LARGEST, graph), device)
        yield name, session, {**built, **facts}


def _timed(opened: Callable[[], Session], device: str) -> tuple[Session, Record]:
    """What `opened` returns, and the time and memory that it took."""
    before, start = _free(device), time.perf_counter()
    session = opened()
    seconds = round(time.perf_counter() - start, 2)
    return session, {
        "load_seconds": seconds,
        "memory_bytes": before - _free(device),
        "runs_as": session.provider,
        "note": session.note,
    }


def engine(model: IERN, head: str, folder: Path) -> Path:
    """An engine by the export command. Raises EngineError with the command's own words."""
    folder.mkdir(parents=True)
    checkpoint = folder / "network.pt"
    save_checkpoint(Checkpoint(model.config, model.state_dict()), checkpoint)
    options = ["--backend", "auto", "--head", head, "--max-batch", str(LARGEST), "-o", str(folder / "network.onnx")]
    command = [sys.executable, "-m", "iern.export.to_trt", str(checkpoint), *options]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    built = sorted(folder.glob("*.engine"))
    if done.returncode or not built:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
        raise EngineError(f"export/to_trt.py, status {done.returncode}: {lines[-1].removeprefix('error: ')}")
    return built[0]


def _free(device: str) -> int:
    """Free bytes of the GPU's memory, whoever uses the rest; 0 on the CPU."""
    if device != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()[0]
