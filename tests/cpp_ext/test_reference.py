"""The slow form of the averaging tail, compared with PyTorch's layers and with the exporter's tail."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from iern.cpp_ext.reference import strata_tail, strata_tail_by_window_sums, window_sums
from iern.export.graph.deconfound import WindowSumTail
from iern.train.network.iern import Classifier

MAPS = [(7, 7), (5, 5), (4, 6), (3, 2), (2, 1), (1, 1)]


def random_case(map_size: tuple[int, int], batch: int = 2, strata: int = 3, width: int = 5, expressions: int = 4):
    """Arguments of `strata_tail` as float64 arrays."""
    random = np.random.default_rng(map_size)
    u = random.normal(size=(batch, strata, width, *map_size))
    h = np.maximum(random.normal(size=u.shape), 0)
    linear, bias = random.normal(size=(expressions, width)), random.normal(size=expressions)
    kernel, kernel_bias = random.normal(size=(width, width, 3, 3)), random.normal(size=width)
    return u, h, linear, bias, kernel, kernel_bias


@pytest.mark.parametrize("map_size", MAPS, ids=str)
def test_the_reference_equals_pytorchs_convolution_pool_and_linear_layer(map_size):
    case = random_case(map_size)
    u, h, linear, bias, kernel, kernel_bias = map(torch.from_numpy, case)
    convolved = F.conv2d(h.flatten(0, 1), kernel, kernel_bias, padding=1).view_as(u)
    expected = F.linear(F.adaptive_avg_pool2d((u + convolved).flatten(0, 1), 1).flatten(1), linear, bias)
    np.testing.assert_allclose(strata_tail(*case), expected.view(2, 3, 4).numpy(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("map_size", MAPS, ids=str)
def test_window_sums_give_the_result_of_the_convolution(map_size):
    case = random_case(map_size)
    np.testing.assert_allclose(strata_tail_by_window_sums(*case), strata_tail(*case), rtol=0, atol=1e-12)


@pytest.mark.parametrize("map_size", MAPS, ids=str)
@pytest.mark.parametrize("strata", [1, 3, 10])
def test_the_exported_tail_equals_the_reference(map_size, strata):
    u, h, linear, bias, kernel, kernel_bias = random_case(map_size, strata=strata)
    last, classifier = nn.Conv2d(5, 5, 3, padding=1).double(), Classifier(5, 4).double()
    with torch.no_grad():
        for parameter, value in zip(
            (last.weight, last.bias, classifier.linear.weight, classifier.linear.bias),
            (kernel, kernel_bias, linear, bias),
            strict=True,
        ):
            parameter.copy_(torch.from_numpy(value))
        tail = WindowSumTail(last, classifier, map_size, strata).double()
        found = tail(torch.from_numpy(u).flatten(0, 1), torch.from_numpy(h).flatten(0, 1))
    np.testing.assert_allclose(found.numpy(), strata_tail(u, h, linear, bias, kernel, kernel_bias), rtol=0, atol=1e-12)


def test_a_window_omits_the_row_or_column_that_its_tap_never_meets():
    h = np.arange(1.0, 7.0).reshape(2, 3)  # 1 2 3 / 4 5 6
    expected = [[1 + 2, 1 + 2 + 3, 2 + 3], [1 + 2 + 4 + 5, 21, 2 + 3 + 5 + 6], [4 + 5, 4 + 5 + 6, 5 + 6]]
    np.testing.assert_array_equal(window_sums(h), expected)


def test_single_precision_arguments_are_computed_in_double():
    case = random_case((7, 7))
    single = strata_tail(*(value.astype(np.float32) for value in case))
    assert single.dtype == np.float64
    np.testing.assert_allclose(single, strata_tail(*case), rtol=0, atol=1e-5)
