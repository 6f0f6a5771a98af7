"""Folding into convolutions is exact. A layer that cannot be folded exactly stays as it is."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, nn

from doubles.tiny_network import randomise
from iern.export.graph.fold import fold_batch_norms, fold_pixel_scale

SCALE = torch.tensor([0.5, 2.0, -3.0], dtype=torch.float64)


class Shared(nn.Module):
    """One convolution in two places, a BatchNorm behind the first only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(self.conv(x)))


class ReadTwice(nn.Module):
    """A convolution whose output is read by the BatchNorm and by another operation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.cat([self.norm(y), y], dim=1)


class Standardised(nn.Conv2d):
    """Changes its weights before it uses them, as timm's StdConv2d does."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight / self.weight.norm(), self.bias)


class ImageReadTwice(nn.Module):
    """The image is read by the first convolution and by a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + x


FOLDED = {
    "convolution and norm": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
    "without bias": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)),
    "without scale": nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4, affine=False)),
    "grouped": nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)),
    "dynamic padding": nn.Sequential(Conv2dSame(3, 4, 3, stride=2), BatchNormAct2d(4)),
    "two in a row": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)),
}
LEFT = {
    "shared": Shared(),
    "read twice": ReadTwice(),
    "its own weights": nn.Sequential(Standardised(3, 4, 3, padding=1), nn.BatchNorm2d(4)),
    "norm first": nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)),
    "something between": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4)),
}


def prepared(network: nn.Module) -> tuple[nn.Module, Tensor, Tensor]:
    """A copy with random statistics in float64, an input, and the copy's output."""
    network = copy.deepcopy(network).double().eval()
    randomise(network)
    image = torch.randn(2, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network, image, network(image)


def norms_in(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", FOLDED)
def test_a_batch_norm_behind_a_convolution_goes_into_it_exactly(name):
    network, image, expected = prepared(FOLDED[name])
    fold_batch_norms(network, image[:1])
    assert not norms_in(network)
    with torch.no_grad():
        torch.testing.assert_close(network(image), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", LEFT)
def test_a_batch_norm_stays_if_folding_would_change_the_output(name):
    network, image, expected = prepared(LEFT[name])
    fold_batch_norms(network, image[:1])
    assert len(norms_in(network)) == 1
    with torch.no_grad():
        torch.testing.assert_close(network(image), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["convolution and norm", "dynamic padding", "without bias", "two in a row"])
def test_colour_order_and_scale_go_into_the_first_convolution(name):
    network, rgb, _ = prepared(FOLDED[name])
    with torch.no_grad():
        expected = network(rgb * SCALE.view(1, 3, 1, 1))
        folded = fold_pixel_scale(network, rgb[:1], SCALE)
        assert folded is network
        torch.testing.assert_close(folded(rgb.flip(1)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["image read twice", "grouped", "its own weights", "norm first", "shared"])
def test_colour_order_and_scale_stay_in_the_graph_if_the_first_layer_cannot_take_them(name):
    network, rgb, _ = prepared({**FOLDED, **LEFT, "image read twice": ImageReadTwice()}[name])
    with torch.no_grad():
        expected = network(rgb * SCALE.view(1, 3, 1, 1))
        folded = fold_pixel_scale(network, rgb[:1], SCALE)
        assert folded is not network
        torch.testing.assert_close(folded(rgb.flip(1)), expected, rtol=0, atol=1e-12)
