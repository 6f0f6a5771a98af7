"""Folds affine layers into convolutions: BatchNorm into the one before it, pixel scaling into the first.

A network does not record which layer reads which tensor, so this is observed in one forward pass. That works for any
backbone. A layer that cannot be folded stays as it is: slower, but right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

# Exact types: a subclass may do more to its weights or its output.
CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv2d,)
BATCH_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm2d,)
with contextlib.suppress(ModuleNotFoundError):  # without timm no network holds its layers
    from timm.layers import BatchNormAct2d, Conv2dSame

    CONVOLUTIONS += (Conv2dSame,)
    BATCH_NORMS += (BatchNormAct2d,)


@torch.no_grad()
def fold_batch_norms(network: nn.Module, *inputs: Tensor) -> None:
    """Fold BatchNorms in place: each goes into the convolution before it, if nothing else reads that one's output.

    `inputs` is one example of the network's input. The network must be in eval mode.
    """
    observed = _ObservedPass(network, *inputs)
    names = {module: name for name, module in network.named_modules()}
    for norm, read, _ in observed.calls:
        convolution = observed.writer(read)
        if type(norm) in BATCH_NORMS and norm.running_mean is not None and convolution and observed.ran_once(norm):
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                convolution.weight,
                convolution.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            network.set_submodule(names[norm], nn.Identity() if type(norm) is nn.BatchNorm2d else norm.act)


@torch.no_grad()
def fold_pixel_scale(network: nn.Module, image: Tensor, scale: Tensor) -> nn.Module:
    """A network on normalised RGB -> one on BGR pixels from which the mean is already subtracted.

    `image` is one example (1, 3, S, S) of the input. `scale` (3,) multiplies red, green and blue. Colour order and
    scale go into the first convolution, in place, if nothing else reads the image. Zero padding stays right because
    zero stays zero. Subtracting the mean would move zero, so the mean is not folded in.
    """
    observed = _ObservedPass(network, image)
    for first, read, _ in observed.calls:
        alone = read is image and observed.readers(image) == 1 and observed.ran_once(first)
        if alone and type(first) in CONVOLUTIONS and first.groups == 1:
            scaled = first.weight * scale.view(1, 3, 1, 1)
            first.weight = nn.Parameter(scaled.flip(1), requires_grad=False)
            return network
    return nn.Sequential(_ScaledRGB(scale), network)


class _ScaledRGB(nn.Module):
    """(B, 3, S, S) BGR -> scaled RGB, for a backbone whose first layer is not a plain convolution."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 3, S, S)."""
        return pixels.flip(1) * self.scale


class _ObservedPass:
    """One forward pass, and the tensors that the convolutions and BatchNorms read and wrote in it."""

    def __init__(self, network: nn.Module, *inputs: Tensor) -> None:
        self.calls: list[tuple[Any, Tensor, Tensor]] = []
        """(module, tensor read, tensor written) in order. While the tensors are held, no other tensor gets their id."""
        self._reads = _ReadCounter()
        for tensor in inputs:
            self._reads.watch(tensor)
        layers = [module for module in network.modules() if type(module) in (*CONVOLUTIONS, *BATCH_NORMS)]
        hooks = [layer.register_forward_hook(self._record) for layer in layers]
        try:
            with self._reads:
                network(*inputs)
        finally:
            for hook in hooks:
                hook.remove()

    def _record(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.calls.append((module, inputs[0], output))
        self._reads.watch(output)

    def readers(self, tensor: Tensor) -> int:
        """The number of operations that read a recorded tensor."""
        return self._reads.count[id(tensor)]

    def ran_once(self, module: nn.Module) -> bool:
        """Whether the module ran only once. Shared weights cannot take in a layer that follows one of their uses."""
        return sum(called is module for called, _, _ in self.calls) == 1

    def writer(self, tensor: Tensor) -> nn.Conv2d | None:
        """The convolution that wrote the tensor, if it ran once and only one operation reads its output."""
        for module, _, written in self.calls:
            convolution = type(module) in CONVOLUTIONS and self.ran_once(module)
            if written is tensor and convolution and self.readers(tensor) == 1:
                return cast(nn.Conv2d, module)
        return None


class _ReadCounter(TorchFunctionMode):
    """Counts the operations that read each watched tensor. Reading its shape does not count."""

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[int, int] = {}

    def watch(self, tensor: Tensor) -> None:
        """Count from now on, from zero: a freed tensor may have had the same id."""
        self.count[id(tensor)] = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(True for _ in _tensors(result)):
            for tensor in _tensors((args, list((kwargs or {}).values()))):
                if id(tensor) in self.count:
                    self.count[id(tensor)] += 1
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
