"""Networks small enough for a test. BatchNorms and biases are random, so that no default value hides an error."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from iern.train.network.config import ModelConfig
from iern.train.network.iern import Baseline, build

EXPRESSIONS = ("anger", "happiness", "sadness", "neutral")


def tiny_config(strata: int = 3, **changes) -> ModelConfig:
    """64 px, 4x4 maps of 8 channels, mean and deviation different for each colour."""
    config = ModelConfig(
        expressions=EXPRESSIONS,
        strata=tuple(f"stratum {i}" for i in range(strata)),
        backbone="test_resnet",
        stride=16,
        image_size=64,
        width=8,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    return dataclasses.replace(config, **changes)


@torch.no_grad()
def randomise(network: nn.Module, seed: int = 0) -> None:
    """Draw BatchNorm statistics, BatchNorm weights of both signs, and all biases."""
    random = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=random)
            module.running_var.uniform_(0.5, 2, generator=random)
            if module.affine:
                module.weight.uniform_(0.5, 1.5, generator=random)
                module.weight *= torch.where(torch.rand(len(module.weight), generator=random) < 0.3, -1, 1)
                module.bias.normal_(0, 0.3, generator=random)
        elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.normal_(0, 0.3, generator=random)


@torch.no_grad()
def tiny_network(config: ModelConfig | None = None, seed: int = 0) -> Baseline:
    """A network in eval mode. Its strata change the logits about as much as the face does."""
    torch.manual_seed(seed)
    model = build(config or tiny_config())
    randomise(model, seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and not name.startswith("backbone"):
            fan_in = module.weight[0].numel()
            module.weight.normal_(
                0, fan_in**-0.5
            )  # with the published 0.02 the strata would hardly matter in so few channels
    return model.eval()


@torch.no_grad()
def close_centres(model: Baseline, share: float) -> Baseline:
    """The same network, whose centres keep this share of their differences from their mean."""
    centres = model.confounders
    centres.copy_(centres.mean(dim=0) + share * (centres - centres.mean(dim=0)))
    return model


def random_faces(count: int, size: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    """(count, size, size, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


@torch.no_grad()
def sequential_logits(model: Baseline, faces: NDArray[np.uint8]) -> Tensor:
    """(B, S, S, 3) BGR faces -> (B, N, E) float64 logits of the network as published, one stratum after another.

    Written from the equations of the paper. It uses only the layers of the model, in float64.
    """
    config, model = model.config, _in_double(model)
    rgb = torch.from_numpy(faces[..., ::-1].copy()).double() / 255
    deviation = torch.tensor(config.std, dtype=torch.float64)
    image = ((rgb - torch.tensor(config.mean, dtype=torch.float64)) / deviation).permute(0, 3, 1, 2)
    generator = nn.Identity() if config.method == "baseline" else model.emotion_generator
    emotion = generator(model.backbone(image))
    if config.mirrored:
        other = generator(model.backbone(image[..., list(range(image.shape[-1]))[::-1]]))
        emotion = emotion / 2 + other[..., list(range(other.shape[-1]))[::-1]] / 2
    if config.method != "iern":
        return model.classifier(emotion)[:, None]
    logits = []
    for centre in model.confounders:
        context = centre.expand(len(faces), *centre.shape)
        logits.append(model.classifier(model.reconstruction(emotion, context)))
    return torch.stack(logits, dim=1)


def _in_double(model: Baseline) -> Baseline:
    copy = build(model.config)
    copy.load_state_dict(model.state_dict())
    return copy.double().eval()


def spread_of(stratum_logits: Tensor) -> float:
    """The scale for an error: the largest difference between strata, or the range of the logits with one stratum."""
    if stratum_logits.shape[1] == 1:
        return float(stratum_logits.max() - stratum_logits.min())
    return float((stratum_logits.amax(dim=1) - stratum_logits.amin(dim=1)).max())
