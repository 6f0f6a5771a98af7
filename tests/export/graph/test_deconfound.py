"""The cheaper head is exact: in float64 it equals the sequential network, relative to the spread of the strata."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from doubles.tiny_network import random_faces, randomise, sequential_logits, spread_of, tiny_config, tiny_network
from iern.export.graph.deconfound import deconfound, deconfounded_head
from iern.train.network.iern import Classifier, Reconstruction

EXACT = 1e-9
"""Largest error over the spread between strata."""

METHODS = ("iern", "disentanglement", "baseline")
BLOCKS = ("published", "paper")


@torch.no_grad()
def outputs(model, faces: np.ndarray, **options) -> tuple[torch.Tensor, ...]:
    """(probabilities, logits, stratum_logits) of the deconfounded model in float64."""
    return deconfound(model, dtype=torch.float64, **options)(torch.from_numpy(faces))


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, over the spread between strata."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max()) / spread_of(expected)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("strata", [1, 3, 10])
def test_every_method_and_block_is_exact_for_every_number_of_strata(method, block, strata):
    model = tiny_network(tiny_config(strata, method=method, block=block))
    expected = sequential_logits(model, random_faces(3))
    probabilities, logits, stratum_logits = outputs(model, random_faces(3))
    assert stratum_logits.shape[1] == (strata if method == "iern" else 1)
    assert error(stratum_logits, expected) < EXACT
    torch.testing.assert_close(logits, expected.mean(dim=1), rtol=0, atol=1e-12)
    torch.testing.assert_close(probabilities, expected.mean(dim=1).softmax(dim=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("method", METHODS)
def test_a_mirrored_model_uses_the_mirror_image_too(method, block):
    model = tiny_network(tiny_config(method=method, block=block, mirrored=True))
    faces = random_faces(3)
    expected = sequential_logits(model, faces)
    assert error(outputs(model, faces)[2], expected) < EXACT
    once = sequential_logits(tiny_network(tiny_config(method=method, block=block)), faces)
    assert error(once, expected) > 1e-3, "the mirror image must change the outputs"


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_strata_and_faces_keep_their_places_in_a_batch(batch):
    model = tiny_network()
    faces = random_faces(batch)
    one_by_one = torch.cat([sequential_logits(model, face[None]) for face in faces])
    assert error(outputs(model, faces)[2], one_by_one) < EXACT


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ("test_efficientnet", 64),  # pads dynamically
        ("tf_efficientnet_lite0", 72),  # so does the edge preset's, here by one side only
        ("test_byobnet", 64),
        ("test_convnext", 64),
        ("test_nfnet", 64),  # its first convolution standardises its weights
        ("test_vit", 160),
    ],
)
def test_any_backbone_is_exact(backbone, size):
    model = tiny_network(tiny_config(backbone=backbone, image_size=size))
    expected = sequential_logits(model, random_faces(2, size))
    assert error(outputs(model, random_faces(2, size))[2], expected) < EXACT


@torch.no_grad()
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("map_size", [(7, 7), (5, 5), (4, 6), (3, 2), (1, 1)], ids=str)
def test_the_head_is_exact_on_maps_of_any_size(map_size, block):
    torch.manual_seed(0)
    reconstruction, classifier = Reconstruction(6, block).double().eval(), Classifier(6, 4).double()
    randomise(reconstruction)
    confounders = torch.randn(3, 6, *map_size, dtype=torch.float64)
    emotion = torch.randn(2, 6, *map_size, dtype=torch.float64)
    expected = torch.stack([classifier(reconstruction(emotion, centre)) for centre in confounders], dim=1)
    head, tail = deconfounded_head(copy.deepcopy(reconstruction), confounders, classifier)
    assert error(tail(*head(emotion)), expected) < EXACT


@torch.no_grad()
@pytest.mark.parametrize(("block", "shared", "each"), [("published", 2, 4), ("paper", 2, 2)])
@pytest.mark.parametrize("strata", [1, 3, 10])
def test_the_head_costs_two_convolutions_and_four_or_two_for_each_stratum(block, shared, each, strata):
    network = deconfound(tiny_network(tiny_config(strata, block=block)))
    maps = []
    for part in (network.head, network.tail):
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                assert module.in_channels == module.out_channels == 8
                module.register_forward_hook(lambda _module, _inputs, output: maps.append(len(output)))
    network(torch.from_numpy(random_faces(1)))
    assert sum(maps) == shared + each * strata


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_the_configured_values_are_averaged_after_the_temperature(average, temperature):
    model = tiny_network(tiny_config(answer=average))
    expected = sequential_logits(model, random_faces(3))
    probabilities, logits, stratum_logits = outputs(model, random_faces(3), temperature=temperature)
    if average == "logits":
        wanted = torch.softmax(expected.mean(dim=1) / temperature, dim=-1)
    else:
        wanted = torch.softmax(expected / temperature, dim=-1).mean(dim=1)
    torch.testing.assert_close(probabilities, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(logits, expected.mean(dim=1), rtol=0, atol=1e-12)
    assert error(stratum_logits, expected) < EXACT


def test_float_pixels_give_the_outputs_of_uint8_pixels():
    network = deconfound(tiny_network())
    faces = torch.from_numpy(random_faces(2))
    for whole, real in zip(network(faces), network(faces.float()), strict=True):
        torch.testing.assert_close(whole, real, rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_given_is_not_changed(method):
    model = tiny_network(tiny_config(method=method)).train()
    before = copy.deepcopy(model.state_dict())
    network = deconfound(model)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert list(model.state_dict()) == list(before)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_model_in_training_mode_is_deconfounded_as_in_eval_mode():
    model = tiny_network()
    evaluated = outputs(model, random_faces(2))
    for one, other in zip(outputs(model.train(), random_faces(2)), evaluated, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_the_default_is_float32_without_gradients_or_batch_norms():
    network = deconfound(tiny_network())
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert not network.training


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("method", METHODS)
def test_a_trunk_in_half_precision_keeps_logits_and_differences_between_strata(method, block):
    model = tiny_network(tiny_config(method=method, block=block))
    faces = random_faces(8)
    expected = sequential_logits(model, faces)
    network = deconfound(model, trunk=torch.float16)
    with torch.no_grad():
        probabilities, logits, stratum_logits = network(torch.from_numpy(faces))
    assert probabilities.dtype == logits.dtype == stratum_logits.dtype == torch.float32
    assert {p.dtype for p in network.tail.parameters()} == {torch.float32}
    assert {p.dtype for part in (network.backbone, network.head) for p in part.parameters()} <= {torch.float16}
    scale = float(np.ptp(expected.numpy()))
    assert 0 < float((stratum_logits - expected).abs().max()) < 5e-3 * scale
    if method == "iern":
        assert float((deviations(stratum_logits) - deviations(expected)).abs().max()) < 2e-2 * spread_of(expected)


def deviations(stratum_logits: torch.Tensor) -> torch.Tensor:
    return stratum_logits - stratum_logits.mean(dim=1, keepdim=True)


def test_the_first_weights_of_a_half_precision_trunk_are_not_scaled_down():
    """Pixels are scaled instead: weights over 127 would be below float16's smallest normal number."""
    model = tiny_network()
    convolution = next(layer for layer in model.backbone.modules() if isinstance(layer, nn.Conv2d))
    first = next(p for p in deconfound(model, trunk=torch.float16).backbone.parameters() if p.ndim == 4)
    assert first.abs().max() > 0.1 * convolution.weight.abs().max()
