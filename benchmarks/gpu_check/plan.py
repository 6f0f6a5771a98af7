"""The stages of a run, their pieces and what each needs, and the time that is left for them."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from benchmarks.gpu_check.machine import missing_reason

NETWORK = ("timm", "cv2", "onnx", "onnxscript", "onnxruntime")
"""Modules that a whole network needs: for its backbone, its input, its export, and its reference on the CPU."""
ENGINE = ("gpu", "cv2", "onnx", "onnxruntime", "tensorrt", "pycuda")


@dataclass(frozen=True)
class Scale:
    """The sizes that are measured, and for how long."""

    presets: tuple[str, ...] = ("edge", "paper")
    precisions: tuple[str, ...] = ("FP32", "FP16")
    strata: tuple[int, ...] = (4, 1, 3, 10)
    """Of tails and heads. The bundled model's number is the first one, so that a short run reaches it."""
    batches: tuple[int, ...] = (1, 4, 16)
    most: int = 200
    """The largest number of timed calls of each variant."""
    least: int = 20
    """The smallest number of them."""
    seconds: float = 40.0
    """The time that all variants of one configuration may take, unless `least` needs more."""

    def within(self, seconds: float | None) -> Scale:
        """The scale for a run of at most `seconds`: no configuration takes more than a twentieth of it."""
        return self if seconds is None else dataclasses.replace(self, seconds=min(self.seconds, seconds / 20))


QUICK = Scale(presets=("edge",), strata=(4,), batches=(1,), most=8, least=4, seconds=2.0)


class TimeLeft:
    """`left()` -> the seconds until the end of a run."""

    def __init__(self, seconds: float | None) -> None:
        """None: no limit."""
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    def __call__(self) -> float:
        """Return the seconds that are left: 0 after the end, infinity without a limit."""
        return max(0.0, self._end - time.monotonic())


@dataclass(frozen=True)
class Piece:
    """A piece of work that runs or is skipped."""

    part: str
    name: str
    what: str
    needs: tuple[str, ...]
    reason: str = ""
    """Why it is skipped; empty if it runs."""


PIECES = (
    Piece("kernel", "nvcc", "the kernel, built for this GPU, compared with float64", ("gpu", "nvcc")),
    Piece("kernel", "image", "the kernel from a shipped image, compared with float64", ("gpu", "image")),
    Piece("engines", "tensorrt native", "the shipped FP16 file as an engine, compared with it on 1,000 faces", ENGINE),
    Piece("engines", "tensorrt kernel", "the same up to the kernel, with the times of the first build", ENGINE),
    Piece("replay", "tensorrt native", "1 to 20 faces: replay = single calls, bit for bit, and the CPU", ENGINE),
    Piece("replay", "tensorrt kernel", "the same with the kernel", ENGINE),
    Piece("replay", "onnxruntime", "the same on CUDA", ("gpu", "cv2", "onnx", "onnxruntime with CUDA")),
    Piece("models", "torch", "published network, and the exact one in FP16 in a CUDA graph", ("gpu", *NETWORK)),
    Piece("models", "torch.compile", "the published network, compiled", ("gpu", *NETWORK, "torch.compile")),
    Piece("models", "onnxruntime", "the shipped file on CUDA", ("gpu", *NETWORK, "onnxruntime with CUDA")),
    Piece("models", "tensorrt native", "the engine, with and without a CUDA graph", (*ENGINE, *NETWORK)),
    Piece("models", "tensorrt kernel", "the engine and the kernel, with and without one", (*ENGINE, *NETWORK)),
    Piece("loop", "engine", "webcam.py on the bundled clip, with the engine and on the CPU", ENGINE),
    Piece("loop", "onnxruntime", "the same with --provider cuda", ("gpu", "cv2", "onnx", "onnxruntime with CUDA")),
    Piece("tests", "pytest", "the tests marked gpu", ("gpu", "pytest", "packaging", *NETWORK)),
    Piece("tails", "torch", "layers and window sums, eager and in a CUDA graph", ("gpu",)),
    Piece("tails", "kernel", "the kernel instead of them", ("gpu", "kernel")),
    Piece("tails", "torch.compile", "each of them compiled", ("gpu", "torch.compile")),
    Piece("heads", "torch", "published, batched and exact head, eager and in a CUDA graph", ("gpu",)),
    Piece("heads", "kernel", "the exact head with the kernel", ("gpu", "kernel")),
    Piece("heads", "torch.compile", "each of them compiled", ("gpu", "torch.compile")),
)
PARTS = tuple(dict.fromkeys(piece.part for piece in PIECES))
SLOW = ("torch.compile", "tensorrt native", "tensorrt kernel")
"""Pieces that build for minutes."""
BEFORE = {"tails": "kernel", "heads": "kernel", "replay": "engines", "models": "engines", "loop": "engines"}
"""Stage -> the stage whose results it uses."""


def plan(only: Collection[str] = (), without: Collection[str] = ()) -> list[Piece]:
    """Every piece. A skipped one has a reason: it is not selected, or something that it needs is missing.

    `only` names stages, `without` names pieces.
    """
    reason_of = cache(missing_reason)
    selected = {*only, *(BEFORE[part] for part in only if part in BEFORE)}

    def reason(piece: Piece) -> str:
        if piece.name in without or (selected and piece.part not in selected):
            return "not selected"
        return "; ".join(filter(None, dict.fromkeys(reason_of(need) for need in piece.needs)))

    return [dataclasses.replace(piece, reason=reason(piece)) for piece in PIECES]


def listing(pieces: list[Piece], scale: Scale) -> str:
    """The plan as text: a line for each piece, and the sizes at which tails, heads and models are measured."""
    lines = []
    for piece in pieces:
        head = f"{piece.part:<7} {piece.name:<16}"
        lines.append(f"{'skip' if piece.reason else 'run':<5} {head} {piece.what}")
        if piece.reason:
            lines.append(f"{'':<6}{'':<7} {'':<16} because {piece.reason}")
    strata, batches = (", ".join(map(str, values)) for values in (scale.strata, scale.batches))
    lines.append(
        f"the bundled model, and tails and heads of {', '.join(scale.presets)} in {', '.join(scale.precisions)}"
    )
    lines.append(f"with N {strata}: batch {batches}, from {scale.least} to {scale.most} calls of each variant")
    return "\n".join(lines)
