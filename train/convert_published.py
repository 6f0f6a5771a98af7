"""Command: convert the authors' published checkpoints into one checkpoint of this project."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from iern.runtime.system.command import command

import torch
from torch import Tensor

from iern.runtime.errors import CheckpointError
from iern.runtime.system.arguments import Parser
from iern.runtime.system.file_conflicts import refuse_conflicts
from iern.runtime.system.files import sha256
from iern.runtime.system.remedies import run_script
from iern.train.network.checkpoint import Checkpoint, save_checkpoint, versions
from iern.train.network.config import PRESETS, ModelConfig
from iern.train.network.iern import build

PARTS = {
    "Base": "backbone",
    "EmoGen": "emotion_generator",
    "ConGen": "context_generator",
    "Recons": "reconstruction",
    "EmoDis": "emotion_discriminator",
    "ConDis": "context_discriminator",
    "Cnfnd": "confounders",
    "Cls": "classifier",
}
"""<part> of a file name <epoch>_net_<part>.pth -> attribute of `iern.train.network.iern.IERN`."""

BASE_LAYERS = {
    "0": "features.model.conv1",
    "1": "features.model.bn1",
    **{str(3 + i): f"features.model.layer{i}" for i in range(1, 5)},
    "8": "projection",
}
"""Index in the published backbone, an nn.Sequential of torchvision's ResNet-50 -> layer of `Backbone`."""

CENTRES = "mem_tensors"
"""Name of the centres, the learned context of each stratum, in the Cnfnd file. No other file has them."""

REMEDY = "give the files of the published ResNet-50 network, all of one run"

DESCRIPTION = """Convert the authors' published checkpoints into one checkpoint of this project.

example:
  python train/convert_published.py checkpoints/fold1 --epoch latest -o ckpt.pt \\
      --expressions anger disgust fear happiness sadness surprise --strata CK+ MMI Oulu-CASIA

FOLDER holds <epoch>_net_{Base,EmoGen,ConGen,Recons,EmoDis,ConDis,Cnfnd,Cls}.pth. The files do not contain the names of
the expressions and of the confounder strata (the values of the nuisance, here the data sets). Give both in the order of
the training labels. Next: python export/to_trt.py ckpt.pt"""


def convert_published(
    folder: Path | str, epoch: str | int, expressions: Sequence[str], strata: Sequence[str]
) -> Checkpoint:
    """The eight files of one epoch, E expression names and N stratum names -> a checkpoint with the paper's network.

    d, E, N and the size of the maps are read from the files. Names may begin with DataParallel's `module.`. The
    backbone and the centres are found by their published names. The tensors of the other parts are taken in order,
    which in a state dict is the order of definition. Each must have the shape and the last part of the name (`weight`,
    `running_mean`, ...) of its counterpart here.
    Raises CheckpointError for a file that is missing or cannot be read safely, a tensor that does not fit, or a wrong
    number of names.
    """
    files = _files(Path(folder), str(epoch))
    states = {part: _read(path) for part, path in files.items()}
    width = _find(states["Base"], "8.weight", files["Base"]).shape[:1].numel()
    centres = _maps(_find(states["Cnfnd"], CENTRES, files["Cnfnd"]), width, files["Cnfnd"])
    last = next(reversed(states["Cls"].values()))  # (E,) the linear layer's bias
    _check_names("expressions", expressions, last.shape[:1].numel(), files["Cls"])
    _check_names("strata", strata, len(centres), files["Cnfnd"])
    config = _config(width, centres.shape[-1], expressions, strata)
    with torch.device("meta"):  # only names and shapes are needed
        wanted = build(config).state_dict()
    weights = {"confounders": centres}
    for part, name in PARTS.items():
        own = {key: tensor for key, tensor in wanted.items() if key.startswith(f"{name}.")}
        if part == "Base":
            weights |= _by_name(own, states[part], files[part])
        elif part != "Cnfnd":
            weights |= _in_order(own, states[part], files[part])
    return Checkpoint(
        config=config,
        weights=weights,
        provenance={
            "data": "that of the published checkpoint",
            "licence": "that of the published checkpoint",
            "backbone": "published checkpoint",
            "epoch": str(epoch),
            "sha256": {path.name: sha256(path) for path in files.values()},
            "versions": versions("torch", "timm", "iern"),
        },
    )


def _files(folder: Path, epoch: str) -> dict[str, Path]:
    """-> the eight files by part."""
    files = {part: folder / f"{epoch}_net_{part}.pth" for part in PARTS}
    missing = [path.name for path in files.values() if not path.is_file()]
    if missing:
        epochs = sorted({path.name.split("_net_")[0] for path in folder.glob("*_net_*.pth")})
        raise CheckpointError(
            f"{folder}: has no {', '.join(missing)}; expected the eight files of epoch {epoch}, found files of "
            f"{'epoch ' + ', '.join(epochs) if epochs else 'no epoch'}; give another folder or --epoch"
        )
    return files


def _read(path: Path) -> dict[str, Tensor]:
    """-> the state dict of one file, without DataParallel's prefix."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for files that are not its own
        raise CheckpointError(
            f"{path}: not a state dict that can be read safely, or incomplete ({type(error).__name__}); "
            "download it again"
        ) from error
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(
            f"{path}: holds {type(content).__name__}, expected a state dict (names and tensors); "
            "save the module's state_dict() there"
        )
    return {key.removeprefix("module."): tensor for key, tensor in content.items()}


def _find(state: Mapping[str, Tensor], key: str, path: Path) -> Tensor:
    if key not in state:
        raise CheckpointError(f"{path}: has no {key} (found {', '.join(list(state)[:4])}, ...); {REMEDY}")
    return state[key]


def _maps(centres: Tensor, width: int, path: Path) -> Tensor:
    """(N, d*h*w) or (N, d, h, w) centres -> (N, d, h, h) float32."""
    side = math.isqrt(max(centres[0].numel() // width, 1)) if centres.ndim in (2, 4) and len(centres) else 0
    if (
        side < 2  # the discriminators need 2
        or centres[0].numel() != width * side**2
        or centres.shape[1:] not in ((width * side**2,), (width, side, side))
    ):
        raise CheckpointError(
            f"{path}: {CENTRES} has shape {tuple(centres.shape)}, expected (N, {width}*h*h) or (N, {width}, h, h), "
            f"as the backbone has {width} channels; {REMEDY}"
        )
    return centres.reshape(-1, width, side, side).float()


def _check_names(what: str, names: Sequence[str], count: int, path: Path) -> None:
    if len(names) != count or len(set(names)) != count:
        raise CheckpointError(
            f"{path}: has {count} {what}, but {len(names)} names were given ({', '.join(names)}), "
            f"{len(set(names))} of them different; give {count} names, --{what} in the order of the training labels"
        )


def _config(width: int, side: int, expressions: Sequence[str], strata: Sequence[str]) -> ModelConfig:
    """-> the paper's network for maps of side x side."""
    paper = PRESETS["paper"]
    changes = {"image_size": side * paper["stride"], "width": width}
    preset = "paper" if {**paper, **changes} == paper else "custom"
    return ModelConfig(
        **{**paper, **changes}, preset=preset, expressions=tuple(expressions), strata=tuple(strata), method="iern"
    )


def _by_name(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """-> the weights of the backbone. Each index of the nn.Sequential is a layer of torchvision, named as in timm."""
    by_name: dict[str, Tensor] = {}
    for key, tensor in state.items():
        index, _, rest = key.partition(".")
        by_name[f"backbone.{BASE_LAYERS.get(index, index)}.{rest}"] = tensor
    if missing := [key for key in wanted if key not in by_name]:
        raise CheckpointError(f"{path}: lacks {len(missing)} of {len(wanted)} tensors, first {missing[0]}; {REMEDY}")
    if foreign := [key for key in by_name if key not in wanted]:
        raise CheckpointError(f"{path}: has {len(foreign)} tensors too many, first {foreign[0]}; {REMEDY}")
    return {key: _fitted(key, tensor, by_name[key], path) for key, tensor in wanted.items()}


def _in_order(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """-> the weights of another part, tensor by tensor in the order of both state dicts."""
    if len(state) != len(wanted):
        raise CheckpointError(f"{path}: holds {len(state)} tensors, expected {len(wanted)}; {REMEDY}")
    fitted = {}
    for (key, tensor), (other, given) in zip(wanted.items(), state.items(), strict=True):
        if key.rpartition(".")[2] != other.rpartition(".")[2]:
            raise CheckpointError(f"{path}: has {other} instead of {key}; {REMEDY}")
        fitted[key] = _fitted(key, tensor, given, path, other)
    return fitted


def _fitted(key: str, wanted: Tensor, given: Tensor, path: Path, name: str = "") -> Tensor:
    """-> `given` in the number type of `wanted`. Both must have the same shape."""
    if given.shape != wanted.shape:
        raise CheckpointError(
            f"{path}: {name or key} has shape {tuple(given.shape)}, expected {tuple(wanted.shape)} for {key}; {REMEDY}"
        )
    return given.to(wanted.dtype)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = Parser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder with the published files")
    files = parser.add_argument_group("files").add_argument
    files("-o", "--output", type=Path, required=True, metavar="FILE", help="checkpoint to write, for example ckpt.pt")
    files("--epoch", default="latest", help="`latest` or a number, as in the file names (default: latest)")
    names = parser.add_argument_group("names, in the order of the training labels").add_argument
    names("--expressions", nargs="+", required=True, metavar="NAME", help="E names")
    names("--strata", nargs="+", required=True, metavar="NAME", help="N names of the confounder strata")
    options = parser.parse_args(argv)
    refuse_conflicts({"FOLDER": options.folder.glob("*_net_*.pth")}, {"--output": options.output})
    checkpoint = convert_published(options.folder, options.epoch, options.expressions, options.strata)
    save_checkpoint(checkpoint, options.output)
    print(f"wrote {options.output}; next: {run_script('export/to_trt.py')} {options.output}")


if __name__ == "__main__":
    sys.exit(main())
