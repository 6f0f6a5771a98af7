"""The averaging tail as the PyTorch operator `iern::strata_tail`.

On CUDA tensors it runs the kernel, on CPU tensors the plain C++ form. Without the compiled libraries, or on any other
device, it is a few PyTorch calls with the same result up to rounding. It has no backward: it is for inference.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from iern.cpp_ext import native

TailResult = tuple[Tensor, Tensor, Tensor]
"""Probabilities (B, E), logits (B, E), stratum logits (B, N, E), float32."""

Launch = Callable[[native.Tail, bool], None]
"""Runs a compiled tail, given its argument and whether the maps are in half precision. On CUDA, in PyTorch's stream."""

SCHEMA = (
    "(Tensor u, Tensor? h, Tensor weight, Tensor bias, int strata, float temperature=1.0, str answer='logits')"
    " -> (Tensor probabilities, Tensor logits, Tensor stratum_logits)"
)


@torch.library.custom_op("iern::strata_tail", mutates_args=(), schema=SCHEMA)
def strata_tail(
    u: Tensor,
    h: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    strata: int,
    temperature: float = 1.0,
    answer: str = "logits",
) -> TailResult:
    """Maps (B * N, d, H, W), with a face's strata adjacent -> probabilities and logits (B, E), per stratum (B, N, E).

    `u` and `h` are in half or single precision; `h` is None for networks with a ReLU before the pool. `weight`
    (E, d, 10), or (E, d, 1) without `h`, and `bias` (E,) are in single precision, see `iern.cpp_ext.tail_weights`.
    `temperature` divides the logits of the probabilities only. `answer` is "logits" for the softmax of the mean logits,
    or "probabilities" for the mean of the strata's softmaxes.
    """
    _check(u, h, weight, bias, strata, temperature, answer)
    sums = u.float().sum((2, 3)).unsqueeze(-1)
    if h is not None:
        sums = torch.cat([sums, _window_sums(h.float())], dim=-1)
    by_stratum = torch.addmm(bias, sums.flatten(1), weight.flatten(1).T).unflatten(0, (-1, strata))
    logits = by_stratum.mean(1)
    if answer == "probabilities":
        return (by_stratum / temperature).softmax(-1).mean(1), logits, by_stratum
    return (logits / temperature).softmax(-1), logits, by_stratum


@strata_tail.register_fake
def _shapes(
    u: Tensor,
    h: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    strata: int,
    temperature: float = 1.0,
    answer: str = "logits",
) -> TailResult:
    _check(u, h, weight, bias, strata, temperature, answer)
    return _empty_outputs(u, weight, strata)


def _compiled(
    launch: Launch,
    u: Tensor,
    h: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    strata: int,
    temperature: float = 1.0,
    answer: str = "logits",
) -> TailResult:
    """The operator, computed by a compiled tail."""
    _check(u, h, weight, bias, strata, temperature, answer)
    probabilities, logits, by_stratum = outputs = _empty_outputs(u, weight, strata)
    faces, (expressions, channels, _) = len(logits), weight.shape
    if not faces:
        return outputs
    if max(faces, strata) > native.GRID_LIMIT:
        raise ValueError(f"{faces} faces in {strata} strata exceed the limit of {native.GRID_LIMIT} each")
    u, weight, bias = u.contiguous(), weight.contiguous(), bias.contiguous()  # copies a channels-last map
    h = None if h is None else h.contiguous()
    partials = u.new_empty(native.partials_shape(faces, strata, channels, expressions), dtype=torch.float32)
    done = u.new_zeros(faces, dtype=torch.int32)
    tail = native.Tail(
        *(0 if tensor is None else tensor.data_ptr() for tensor in (u, h, weight, bias)),
        *(tensor.data_ptr() for tensor in (partials, done, by_stratum, logits, probabilities)),
        *(faces, strata, channels, *u.shape[2:], expressions),
        temperature,
        answer == "probabilities",
    )
    half = u.dtype == torch.float16
    if u.device.type == "cuda":
        with torch.cuda.device(u.device):
            launch(tail, half)
    else:
        launch(tail, half)
    return outputs


def launch_with(device: str, launch: Launch) -> None:
    """Let `launch` compute the operator from now on, for tensors on a type of device, `cpu` or `cuda`."""
    strata_tail.register_kernel(device)(partial(_compiled, launch))


def launch_from(name: str, loaded: ctypes.CDLL) -> Launch:
    """The launch function of a library of `native`, given its name."""
    if name == native.CPU:
        return lambda tail, half: native.run_on_cpu(loaded, tail, half)
    return lambda tail, half: native.run_on_cuda(loaded, tail, half, torch.cuda.current_stream().cuda_stream)


for _device, _name in (("cpu", native.CPU), ("cuda", native.CUDA)):
    if (_loaded := native.library(_name)) is not None:
        launch_with(_device, launch_from(_name, _loaded))


def _empty_outputs(u: Tensor, weight: Tensor, strata: int) -> TailResult:
    faces, expressions = u.shape[0] // strata, weight.shape[0]
    shapes = (faces, expressions), (faces, expressions), (faces, strata, expressions)
    first, second, third = (u.new_empty(shape, dtype=torch.float32) for shape in shapes)
    return first, second, third


def _window_sums(h: Tensor) -> Tensor:
    """(F, d, H, W) -> (F, d, 9): the sums over the pixels that each tap of a padded 3x3 kernel meets."""
    rows = h[:, :, :-1].sum(2), h.sum(2), h[:, :, 1:].sum(2)
    return torch.stack([sums for row in rows for sums in (row[..., :-1].sum(2), row.sum(2), row[..., 1:].sum(2))], -1)


def _check(
    u: Tensor, h: Tensor | None, weight: Tensor, bias: Tensor, strata: int, temperature: float, answer: str
) -> None:
    if u.dim() != 4 or u.dtype not in (torch.float16, torch.float32):
        raise ValueError(f"u is {tuple(u.shape)} of {u.dtype}; expected (B * N, d, H, W) of float16 or float32")
    if h is not None and (h.shape != u.shape or h.dtype != u.dtype):
        raise ValueError(f"h is {tuple(h.shape)} of {h.dtype}, but u is {tuple(u.shape)} of {u.dtype}")
    if strata < 1 or u.shape[0] % strata:
        raise ValueError(f"u has {u.shape[0]} maps, which is not a multiple of {strata} strata")
    table = (bias.shape[0], u.shape[1], 1 if h is None else 10)
    if tuple(weight.shape) != table or bias.dim() != 1 or {weight.dtype, bias.dtype} != {torch.float32}:
        raise ValueError(
            f"weight is {tuple(weight.shape)} of {weight.dtype}, bias {tuple(bias.shape)} of {bias.dtype}; "
            f"expected {table} and (E,) of float32, see iern.cpp_ext.tail_weights"
        )
    if len({tensor.device for tensor in (u, h, weight, bias) if tensor is not None}) > 1:
        raise ValueError("u, h, weight and bias are on different devices")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be positive")
    if answer not in ("logits", "probabilities"):
        raise ValueError(f"answer is {answer!r}; expected 'logits' or 'probabilities'")
