"""Kernels rounded to half precision keep their sums, unlike kernels whose weights are rounded one by one."""

import torch
import torch.nn.functional as F
from torch import nn

from doubles.tiny_network import tiny_network
from iern.export.graph.deconfound import deconfound
from iern.export.graph.round_kernels import round_kernels, rounded


def kernels(out=16, into=4, size=3):
    """Edge detectors: large weights, whose sum is a hundredth of them."""
    generator = torch.Generator().manual_seed(0)
    weight = 30 * torch.randn(out, into, size, size, dtype=torch.float64, generator=generator)
    return weight - weight.mean(dim=(2, 3), keepdim=True) + 0.03


def test_a_kernel_keeps_its_sum_to_the_step_of_its_smallest_weight():
    weight = kernels()
    sums = weight.sum(dim=(2, 3))
    error = (rounded(weight, torch.float16).sum(dim=(2, 3)) - sums).abs()
    alone = (weight.half().double().sum(dim=(2, 3)) - sums).abs()
    smallest = weight.abs().amin(dim=(2, 3)) + alone  # its size after it has taken up the others' errors
    assert (error <= smallest * 2**-11 + 2**-25).all()
    assert error.mean() < alone.mean() / 5


def test_rounded_kernels_are_exact_in_half_precision_and_only_one_weight_is_not_the_nearest():
    weight = kernels()
    found = rounded(weight, torch.float16)
    assert torch.equal(found.half().double(), found)
    assert ((found != weight.half().double()).sum(dim=(2, 3)) <= 1).all()


def test_a_kernel_of_one_weight_is_rounded_to_the_nearest():
    weight = kernels(size=3)[..., :1, :1]
    assert torch.equal(rounded(weight, torch.float16), weight.half().double())


def test_on_a_smooth_image_the_output_is_closer_to_the_exact_one():
    weight = kernels()
    ramp = torch.linspace(5, 6, 32, dtype=torch.float64).expand(1, 4, 32, 32)
    exact = F.conv2d(ramp, weight)
    layer = nn.Conv2d(4, 16, 3, bias=False).double()
    layer.weight.data.copy_(weight)
    round_kernels(layer, torch.float16)
    error, alone = ((F.conv2d(ramp, w) - exact).abs().max() for w in (layer.weight, weight.half().double()))
    assert error < alone / 3


def test_the_half_precision_network_has_such_kernels():
    model = tiny_network()
    exact, half = deconfound(model, dtype=torch.float64), deconfound(model, trunk=torch.float16)
    pairs = [
        (one.weight, other.weight)
        for name, one in exact.named_modules()
        if isinstance(one, nn.Conv2d) and isinstance(other := half.get_submodule(name), nn.Conv2d)
        if other.weight.dtype == torch.float16
    ]
    assert len(pairs) > 5
    for exactly, found in pairs[1:]:  # the exact network's first kernels hold the scale of the pixels
        assert torch.equal(found, rounded(exactly.float(), torch.float16).half())
