"""The converter against the published forward pass, on files in the published format that the tests write."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from iern.runtime.errors import CheckpointError
from iern.train import convert_published as published
from iern.train.convert_published import convert_published
from iern.train.network.checkpoint import load_checkpoint
from repository import ROOT

torchvision = pytest.importorskip("torchvision")

D, SIDE, SIZE = 16, 2, 64
EXPRESSIONS, STRATA = ("anger", "fear", "happiness", "sadness"), ("x", "y", "z")
E, N = len(EXPRESSIONS), len(STRATA)


class ResnetBlock(nn.Module):
    """The residual block of CycleGAN's code, which the published one follows."""

    def __init__(self):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.Conv2d(D, D, 3, padding=1, bias=False),
            nn.BatchNorm2d(D),
            nn.ReLU(True),
            nn.Conv2d(D, D, 3, padding=1, bias=False),
            nn.BatchNorm2d(D),
        )

    def forward(self, x):
        return x + self.conv_block(x)


class WithUnknownName(nn.Module):
    """Layers under a name that the converter does not know."""

    def __init__(self, *layers):
        super().__init__()
        self.some_name = nn.Sequential(*layers)

    def forward(self, x):
        return self.some_name(x)


def discriminator(classes):
    layers = [nn.Conv2d(D, D, 4, 2, 1), nn.LeakyReLU(0.01)]
    for wide in (D, D // 2, D // 4):
        layers += [nn.Conv2d(wide, wide // 2, 1), nn.LeakyReLU(0.01)]
    return WithUnknownName(*layers, nn.Conv2d(D // 8, classes, SIDE // 2, bias=False))


def published_networks() -> dict[str, nn.Module]:
    """The seven modules; BatchNorm's parameters and running statistics are not at their initial values."""
    torch.manual_seed(0)
    resnet = torchvision.models.resnet50(weights=None)
    networks = {
        "Base": nn.Sequential(*list(resnet.children())[:-2], nn.Conv2d(2048, D, 1)),
        "EmoGen": WithUnknownName(nn.Conv2d(D, D, 3, padding=1), ResnetBlock(), ResnetBlock()),
        "ConGen": WithUnknownName(nn.Conv2d(D, D, 3, padding=1), ResnetBlock(), ResnetBlock()),
        "Recons": WithUnknownName(nn.Conv2d(2 * D, D, 3, padding=1), *(ResnetBlock() for _ in range(3))),
        "EmoDis": discriminator(E),
        "ConDis": discriminator(N),
        "Cls": WithUnknownName(nn.Linear(D, E)),
    }
    for network in networks.values():
        for module in network.eval().modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.1)
                nn.init.normal_(module.bias, 0.0, 0.1)
                nn.init.normal_(module.running_mean, 0.0, 0.1)
                nn.init.uniform_(module.running_var, 0.8, 1.2)
                module.num_batches_tracked += 7
    return networks


def write(folder: Path, networks: dict[str, nn.Module], centres: torch.Tensor, prefix: str = "", epoch="latest"):
    states = {part: network.state_dict() for part, network in networks.items()}
    states["Cnfnd"] = {"mem_tensors": centres}
    for part, state in states.items():
        with_prefix = {prefix + key: tensor for key, tensor in state.items()}
        torch.save(with_prefix, folder / f"{epoch}_net_{part}.pth")


@pytest.fixture(scope="module")
def networks():
    return published_networks()


@pytest.fixture(scope="module")
def centres():
    return torch.randn(N, D * SIDE * SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def originals(tmp_path_factory, networks, centres):
    folder = tmp_path_factory.mktemp("published")
    write(folder, networks, centres)
    return folder


@pytest.fixture
def folder(tmp_path, originals):
    """Links to the eight files, since writing a ResNet-50 for every test would take long."""
    for file in originals.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def convert(folder, epoch="latest"):
    return convert_published(folder, epoch, EXPRESSIONS, STRATA)


@pytest.mark.parametrize(
    ("prefix", "shape", "epoch"),
    [("", (N, D * SIDE * SIDE), "latest"), ("module.", (N, D, SIDE, SIDE), 140)],
    ids=["plain", "DataParallel"],
)
@torch.no_grad()
def test_every_converted_part_computes_what_the_published_one_does(tmp_path, networks, centres, prefix, shape, epoch):
    write(tmp_path, networks, centres.reshape(shape), prefix, epoch)
    converted = convert(tmp_path, epoch)
    model = converted.model().double()
    theirs = {part: network.double() for part, network in networks.items()}
    image = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64)

    base = theirs["Base"](image)
    emotion, context = theirs["EmoGen"](base), theirs["ConGen"](base)
    expected = []
    for centre in centres.double().view(N, D, SIDE, SIDE):
        mixed = theirs["Recons"](torch.cat([emotion, centre.expand(2, -1, -1, -1)], 1))
        expected.append(theirs["Cls"](nn.functional.adaptive_avg_pool2d(mixed, 1).flatten(1)))
    expected = torch.stack(expected, 1)
    assert expected.std(dim=1).min() > 1e-4  # the strata differ, so that their order is seen

    exact = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(model.backbone(image), base, **exact)
    torch.testing.assert_close(model.stratum_logits(image), expected, **exact)
    torch.testing.assert_close(model.context_generator(base), context, **exact)
    torch.testing.assert_close(model.emotion_discriminator(emotion), theirs["EmoDis"](emotion).flatten(1), **exact)
    torch.testing.assert_close(model.context_discriminator(context), theirs["ConDis"](context).flatten(1), **exact)
    assert (converted.config.width, converted.config.image_size) == (D, SIZE)
    for network in networks.values():
        network.float()


def test_the_command_writes_a_checkpoint_that_loads(folder):
    command = [sys.executable, str(ROOT / "train" / "convert_published.py"), str(folder), "-o", str(folder / "ckpt.pt")]
    done = subprocess.run(
        [*command, "--expressions", *EXPRESSIONS, "--strata", *STRATA],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    checkpoint = load_checkpoint(folder / "ckpt.pt")
    assert (checkpoint.config.expressions, checkpoint.config.strata) == (EXPRESSIONS, STRATA)
    assert set(checkpoint.provenance["sha256"]) == {path.name for path in folder.glob("*.pth")}


def test_the_command_prints_an_error_in_one_line_and_writes_nothing(folder, capsys):
    output = folder / "ckpt.pt"
    arguments = [str(folder), "-o", str(output), "--expressions", "anger", "--strata", *STRATA]
    assert published.main(arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert not output.exists()


def test_missing_files_are_listed_with_the_epochs_that_exist(folder):
    (folder / "latest_net_Recons.pth").unlink()
    with pytest.raises(CheckpointError, match=r"no latest_net_Recons\.pth; .*found files of epoch latest"):
        convert(folder)
    with pytest.raises(CheckpointError, match="epoch 80, found files of epoch latest; give another folder or --epoch"):
        convert(folder, 80)
    with pytest.raises(CheckpointError, match="found files of no epoch"):
        convert(folder / "absent")


@pytest.mark.parametrize(
    ("expressions", "strata", "message"),
    [
        (EXPRESSIONS[:3], STRATA, "has 4 expressions, but 3 names were given"),
        (EXPRESSIONS, (*STRATA, "w"), "has 3 strata, but 4 names were given"),
        (EXPRESSIONS, ("x", "y", "x"), "2 of them different; give 3 names"),
    ],
)
def test_a_wrong_number_of_names_is_refused_with_both_numbers(folder, expressions, strata, message):
    with pytest.raises(CheckpointError, match=message):
        convert_published(folder, "latest", expressions, strata)


def alter(path: Path, change) -> None:
    state = torch.load(path, weights_only=True)
    path.unlink()  # a link, see `folder`
    torch.save(change(state), path)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("Base", lambda s: {k: v for k, v in s.items() if k != "8.weight"}, "has no 8.weight"),
        ("Base", lambda s: {k: v for k, v in s.items() if k != "4.0.conv1.weight"}, r"lacks 1 of .*layer1\.0\.conv1"),
        ("Base", lambda s: {**s, "9.weight": torch.zeros(1)}, "1 tensors too many, first backbone.9.weight"),
        ("Base", lambda s: {**s, "0.weight": torch.zeros(64, 3, 3, 3)}, r"\(64, 3, 3, 3\), expected \(64, 3, 7, 7\)"),
        ("Recons", lambda s: dict(list(s.items())[:-6]), "holds 32 tensors, expected 38"),
        ("EmoGen", lambda s: {k: v[:-1] if v.ndim == 4 else v for k, v in s.items()}, r"\(15, 16, 3, 3\), expected"),
        ("ConGen", lambda s: {k.replace("running_mean", "offset"): v for k, v in s.items()}, "offset instead of c"),
        ("Cnfnd", lambda s: {"centres": s["mem_tensors"]}, "has no mem_tensors"),
        ("Cnfnd", lambda s: {"mem_tensors": s["mem_tensors"][:, 1:]}, r"shape \(3, 63\), expected \(N, 16\*h\*h\)"),
        ("Cnfnd", lambda s: {"mem_tensors": s["mem_tensors"][:, :48]}, r"shape \(3, 48\), expected"),
        ("Cnfnd", lambda s: {"mem_tensors": s["mem_tensors"].view(3, 4, 2, 8)}, r"shape \(3, 4, 2, 8\), expected"),
        ("Cls", lambda s: list(s.values()), "holds list, expected a state dict"),
        ("Cls", lambda s: {}, "expected a state dict"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_with_its_name(folder, part, change, message):
    alter(folder / f"latest_net_{part}.pth", change)
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(folder)
    assert f"latest_net_{part}.pth" in str(caught.value)


def test_a_truncated_file_a_text_and_a_pickled_module_are_refused(folder):
    path = folder / "latest_net_Cls.pth"
    whole = path.read_bytes()
    path.unlink()  # a link, see `folder`
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"latest_net_Cls\.pth: not a state dict that can be read safely"):
        convert(folder)
    path.write_text("expression,confounder\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"latest_net_Cls\.pth: not a state dict that can be read safely"):
        convert(folder)
    torch.save(nn.Linear(D, E), path)
    with pytest.raises(CheckpointError, match=r"latest_net_Cls\.pth: not a state dict that can be read safely"):
        convert(folder)
