"""The pieces of a run, in order, and what each needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from benchmarks.gpu_check.machine import missing_reason

NETWORK = ("timm", "cv2", "onnx", "onnxscript", "onnxruntime")
"""Modules that a whole network needs: for its backbone, its input, its export, and its reference on the CPU."""


@dataclass(frozen=True)
class Scale:
    """The sizes that are measured, and for how long."""

    presets: tuple[str, ...] = ("edge", "paper")
    precisions: tuple[str, ...] = ("FP32", "FP16")
    strata: tuple[int, ...] = (1, 3, 10)
    batches: tuple[int, ...] = (1, 4, 16)
    most: int = 200
    """The largest number of timed calls of each variant."""
    least: int = 20
    """The smallest number of them."""
    seconds: float = 40.0
    """The time that all variants of one configuration may take, unless `least` needs more."""


QUICK = Scale(presets=("edge",), strata=(3,), batches=(1,), most=8, least=4, seconds=2.0)


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
    Piece("tails", "torch", "layers and window sums, eager and in a CUDA graph", ("gpu",)),
    Piece("tails", "kernel", "the kernel instead of them", ("gpu", "kernel")),
    Piece("tails", "torch.compile", "each of them compiled", ("gpu", "torch.compile")),
    Piece("heads", "torch", "published, batched and exact head, eager and in a CUDA graph", ("gpu",)),
    Piece("heads", "kernel", "the exact head with the kernel", ("gpu", "kernel")),
    Piece("heads", "torch.compile", "each of them compiled", ("gpu", "torch.compile")),
    Piece("models", "torch", "published, batched and exact network, eager and in a CUDA graph", ("gpu", *NETWORK)),
    Piece("models", "torch.compile", "each of them compiled", ("gpu", *NETWORK, "torch.compile")),
    Piece("models", "onnxruntime", "the exported file on CUDA", ("gpu", *NETWORK, "onnxruntime with CUDA")),
    Piece("models", "tensorrt native", "an engine with the whole network", ("gpu", *NETWORK, "tensorrt", "pycuda")),
    Piece("models", "tensorrt kernel", "an engine, then the kernel", ("gpu", *NETWORK, "tensorrt", "pycuda")),
    Piece("tests", "pytest", "the tests marked gpu", ("gpu", "pytest", "packaging", *NETWORK)),
)
PARTS = tuple(dict.fromkeys(piece.part for piece in PIECES))
SLOW = ("torch.compile", "tensorrt native", "tensorrt kernel")
"""Pieces that build for minutes."""


def plan(only: Collection[str] = (), without: Collection[str] = ()) -> list[Piece]:
    """Every piece. A skipped one has a reason: it is not selected, or something that it needs is missing.

    `only` names parts, `without` names pieces.
    """
    reason_of = cache(missing_reason)
    # Tails and heads use the kernel that this part loads.
    selected = {*only, "kernel"} if {"tails", "heads"} & set(only) else set(only)

    def reason(piece: Piece) -> str:
        if piece.name in without or (selected and piece.part not in selected):
            return "not selected"
        return "; ".join(filter(None, (reason_of(need) for need in piece.needs)))

    return [dataclasses.replace(piece, reason=reason(piece)) for piece in PIECES]


def listing(pieces: list[Piece], scale: Scale) -> str:
    """The plan as text: a line for each piece, and the sizes at which all parts except the first and last run."""
    lines = []
    for piece in pieces:
        head = f"{piece.part:<7} {piece.name:<16}"
        lines.append(f"{'skip' if piece.reason else 'run':<5} {head} {piece.what}")
        if piece.reason:
            lines.append(f"{'':<6}{'':<7} {'':<16} because {piece.reason}")
    strata, batches = (", ".join(map(str, values)) for values in (scale.strata, scale.batches))
    lines.append(f"tails and heads of {', '.join(scale.presets)} in {', '.join(scale.precisions)}, and the models:")
    lines.append(f"each with N {strata} and batch {batches}, from {scale.least} to {scale.most} calls of each variant")
    return "\n".join(lines)
