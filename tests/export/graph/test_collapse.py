"""Collapsed strata: the network at the mean centre, at the cost of one stratum, nearer the closer the centres are."""

from __future__ import annotations

import copy
import dataclasses

import onnx
import pytest
import torch

from doubles.tiny_export import exported_tiny
from doubles.tiny_network import (
    close_centres,
    random_faces,
    sequential_logits,
    spread_of,
    tiny_config,
    tiny_network,
)
from iern.export.graph.collapse import collapsed
from iern.export.graph.deconfound import deconfound


@torch.no_grad()
@pytest.mark.parametrize("block", ["published", "paper"])
@pytest.mark.parametrize("strata", [2, 10])
def test_it_is_the_sequential_network_with_every_centre_at_their_mean(strata, block):
    model = tiny_network(tiny_config(strata, block=block))
    faces = random_faces(3)
    at_mean = close_centres(copy.deepcopy(model), 0)
    expected = sequential_logits(at_mean, faces)[:, :1]
    network = deconfound(collapsed(model), dtype=torch.float64)
    assert float((network(torch.from_numpy(faces))[2] - expected).abs().max()) < 1e-6 * spread_of(expected)


@torch.no_grad()
def test_the_error_falls_faster_than_the_distance_between_the_centres():
    faces = random_faces(8)

    def error(share: float) -> float:
        model = close_centres(tiny_network(), share)
        found = deconfound(collapsed(model), dtype=torch.float64)(torch.from_numpy(faces))[1]
        return float((found - sequential_logits(model, faces).mean(dim=1)).abs().mean())

    assert 0 < error(0.1) < 0.5 * 0.1 * error(1)


def layers(content: bytes) -> list[tuple]:
    """The name and the kind of each node, with the shapes of its weights."""
    graph = onnx.load_from_string(content).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return [(node.name, node.op_type, [shapes.get(name) for name in node.input]) for node in graph.node]


@pytest.mark.parametrize("block", ["published", "paper"])
def test_a_file_made_from_ten_strata_computes_what_a_file_of_one_stratum_does(block):
    model = tiny_network(tiny_config(10, block=block))
    assert layers(exported_tiny(collapsed(model))) == layers(exported_tiny(tiny_network(tiny_config(1, block=block))))


def test_the_network_given_is_not_changed():
    model = tiny_network()
    before, config = copy.deepcopy(model.state_dict()), dataclasses.replace(model.config)
    assert len(collapsed(model).config.strata) == 1
    assert model.config == config
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
