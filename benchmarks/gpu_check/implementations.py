"""Implementations of the network's head and tail: from an emotion feature, or from the tail's maps, to probabilities.

Each is a module that maps tensors to probabilities (B, E), logits (B, E) and stratum logits (B, N, E), all in single
precision. This file needs nothing except PyTorch.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from iern.cpp_ext.torch_operator import TailResult, strata_tail
from iern.export.graph.deconfound import WindowSumTail, deconfounded_head
from iern.train.network.config import PRESETS, SEVEN_EXPRESSIONS
from iern.train.network.iern import Classifier, Reconstruction

PUBLISHED, BATCHED, EXACT, KERNEL = "published", "batched", "exact", "exact with kernel"
LAYERS, WINDOWS = "layers", "window sums"
MAP_SIDE = 7
"""Pixels of both presets' maps."""
PRECISIONS = {"FP32": torch.float32, "FP16": torch.float16}
TOLERANCES = {"FP32": 5e-5, "FP16": 1e-2}
"""The largest difference of stratum logits from float64, over their range."""


@dataclass(frozen=True)
class HeadSize:
    """The numbers that a head's time depends on."""

    preset: str
    width: int
    """d, the channels of the maps."""
    strata: int
    batch: int
    side: int = MAP_SIDE

    @classmethod
    def of(cls, preset: str, strata: int, batch: int) -> HeadSize:
        """The size of a preset's network."""
        return cls(preset, PRESETS[preset]["width"], strata, batch)


class Head(NamedTuple):
    """g_r, C (N, d, h, w) and f_c, with random weights."""

    reconstruction: Reconstruction
    confounders: Tensor
    classifier: Classifier


class PublishedLoop(nn.Module):
    """The published head: one stratum after another."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.reconstruction, self.classifier = head.reconstruction, head.classifier
        self.register_buffer("confounders", head.confounders)

    def forward(self, emotion: Tensor) -> tuple[Tensor, ...]:
        """(B, d, h, w) -> probabilities, logits and stratum logits."""
        strata = [self.classifier(self.reconstruction(emotion, centre)) for centre in self.confounders]
        return outputs_of(torch.stack(strata, dim=1))


class BatchedStrata(PublishedLoop):
    """The head with all strata in one call of g_r."""

    def forward(self, emotion: Tensor) -> tuple[Tensor, ...]:
        """(B, d, h, w) -> probabilities, logits and stratum logits."""
        strata = len(self.confounders)
        context = self.confounders.repeat(len(emotion), 1, 1, 1)
        maps = self.reconstruction(emotion.repeat_interleave(strata, dim=0), context)
        return outputs_of(self.classifier(maps).unflatten(0, (-1, strata)))


class ExactHead(nn.Module):
    """The deconfounded head with a tail: PyTorch's or the kernel's."""

    def __init__(self, head: nn.Module, tail: nn.Module) -> None:
        super().__init__()
        self.head, self.tail = head, tail

    def forward(self, emotion: Tensor) -> tuple[Tensor, ...]:
        """(B, d, h, w) -> probabilities, logits and stratum logits."""
        return self.tail(*self.head(emotion))


class WindowTail(nn.Module):
    """The tail as it is exported, then mean and softmax."""

    def __init__(self, tail: WindowSumTail) -> None:
        super().__init__()
        self.tail = tail

    def forward(self, u: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """Maps (B * N, d, h, w) before and after the last ReLU -> probabilities, logits and stratum logits."""
        return outputs_of(self.tail(u, h))


class KernelTail(nn.Module):
    """The tail by the operator, which is the kernel on a GPU."""

    def __init__(self, tail: WindowSumTail, side: int) -> None:
        super().__init__()
        channels = tail.of_mean.in_features
        of_mean = tail.of_mean.weight.unsqueeze(-1) / side**2
        table = torch.cat([of_mean, tail.of_windows.weight.unflatten(1, (channels, 9))], dim=-1)
        self.strata = tail.strata
        self.register_buffer("table", table.detach().clone())
        self.register_buffer("bias", tail.of_windows.bias.detach().clone())

    def forward(self, u: Tensor, h: Tensor) -> TailResult:
        """As in `WindowTail`."""
        return strata_tail(u, h, self.table, self.bias, self.strata)


class LayerTail(nn.Module):
    """The layers that the others replace: the last convolution, the sum, the pool and the classifier."""

    def __init__(self, last: nn.Conv2d, classifier: Classifier, strata: int) -> None:
        super().__init__()
        self.last, self.classifier, self.strata = last, classifier, strata

    def forward(self, u: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """As in `WindowTail`."""
        return outputs_of(self.classifier(u + self.last(h)).unflatten(0, (-1, self.strata)))


def outputs_of(by_stratum: Tensor, temperature: float = 1.0) -> tuple[Tensor, ...]:
    """(B, N, E) stratum logits -> probabilities, logits and stratum logits, in single precision."""
    by_stratum = by_stratum.float()
    logits = by_stratum.mean(dim=1)
    return (logits / temperature).softmax(dim=-1), logits, by_stratum


@torch.no_grad()
def random_head(size: HeadSize) -> Head:
    """A head whose random weights, statistics and centres keep maps and logits near 1, so that errors are visible."""
    random = torch.Generator().manual_seed(size.strata)
    head = Head(
        Reconstruction(size.width, "published"),
        torch.randn(size.strata, size.width, size.side, size.side, generator=random),
        Classifier(size.width, len(SEVEN_EXPRESSIONS)),
    )
    for module in (*head.reconstruction.modules(), *head.classifier.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=random)
            module.running_var.uniform_(0.5, 2, generator=random)
            module.weight.uniform_(0.5, 1.5, generator=random)
            module.bias.normal_(0, 0.3, generator=random)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.normal_(0, module.weight[0].numel() ** -0.5, generator=random)
            if module.bias is not None:
                module.bias.normal_(0, 0.3, generator=random)
    for part in (head.reconstruction, head.classifier):
        part.eval().requires_grad_(False)
    return head


def random_emotion(size: HeadSize) -> Tensor:
    """A random emotion feature (B, d, h, w), in single precision."""
    random = torch.Generator().manual_seed(size.batch)
    return torch.randn(size.batch, size.width, size.side, size.side, generator=random)


def head_implementations(head: Head, precision: str, kernel: bool) -> dict[str, nn.Module]:
    """Every implementation of a head, on the CPU. The deconfounded ones sum their tail in single precision."""
    dtype = PRECISIONS[precision]
    parts, tail = exact_parts(head)
    parts.to(dtype)
    half = Head(*(copy.deepcopy(part).to(dtype) for part in head))
    implementations: dict[str, nn.Module] = {
        PUBLISHED: PublishedLoop(half),
        BATCHED: BatchedStrata(half),
        EXACT: ExactHead(parts, WindowTail(tail)),
    }
    if kernel:
        implementations[KERNEL] = ExactHead(parts, KernelTail(tail, head.confounders.shape[-1]))
    return {name: module.eval().requires_grad_(False) for name, module in implementations.items()}


def tail_implementations(head: Head, precision: str, kernel: bool) -> dict[str, nn.Module]:
    """Every implementation of what follows the last ReLU, on the CPU."""
    folded = Head(*(copy.deepcopy(part) for part in head))
    _, tail = deconfounded_head(*folded)  # folds the BatchNorms in place
    last = [layer for layer in folded.reconstruction.blocks[-1].modules() if isinstance(layer, nn.Conv2d)][-1]
    dtype = PRECISIONS[precision]
    layers = LayerTail(copy.deepcopy(last), copy.deepcopy(folded.classifier), len(head.confounders)).to(dtype)
    implementations: dict[str, nn.Module] = {LAYERS: layers, WINDOWS: WindowTail(tail)}
    if kernel:
        implementations[KERNEL] = KernelTail(tail, head.confounders.shape[-1])
    return {name: module.eval().requires_grad_(False) for name, module in implementations.items()}


def exact_parts(head: Head) -> tuple[nn.Module, WindowSumTail]:
    """The deconfounded head and its tail, folded in double and cast to single precision. `head` is not changed."""
    parts, tail = deconfounded_head(*(copy.deepcopy(part).double() for part in head))
    return parts.float(), tail.float()


@torch.no_grad()
def tail_maps(head: Head, emotion: Tensor, device: str) -> tuple[Tensor, Tensor]:
    """The tail's inputs for an emotion feature: u and h, each (B * N, d, h, w), in single precision, on the CPU.

    They are computed on a device: sixteen faces in ten strata take half a minute on a small CPU.
    """
    u, h = exact_parts(head)[0].to(device)(emotion.to(device))
    return u.cpu(), h.cpu()


@torch.no_grad()
def float64_stratum_logits(head: Head, emotion: Tensor, rows: Sequence[int]) -> Tensor:
    """(len(rows), N, E) stratum logits of the published head in float64, for some faces of a batch, on the CPU."""
    double = Head(*(copy.deepcopy(part).double() for part in head))
    faces = emotion[list(rows)].double()
    return torch.stack([double.classifier(double.reconstruction(faces, c)) for c in double.confounders], dim=1)
