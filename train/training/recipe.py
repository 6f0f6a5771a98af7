"""The recipe of a training run: a YAML file under `recipes/`, and options of the command line that override it.

The comment under a field is what `train/fit.py --help` prints.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from iern.runtime.imaging.preprocess import Alignment
from iern.train.algorithm.config import AlgorithmConfig
from iern.train.data.sampler import Resample
from iern.train.network.config import PRESETS, Method, ModelConfig


@dataclass(frozen=True)
class ModelRecipe:
    """The network: a preset, and changes to it."""

    preset: Literal["paper", "edge"] = "edge"
    """`paper`: ResNet-50, 224 px, d 512. `edge`: MobileNet cut at stride 16, 112 px, d 104."""
    method: Method = "iern"
    """`iern`, or one of the two ablations of the paper's Table 2: `disentanglement`, `baseline`."""
    weights: str = "imagenet"
    """First weights of the backbone: `imagenet`, `none` (random), or a file. The file is a state dict of timm, or a
    checkpoint of this project."""
    backbone: str | None = None
    """Name of a timm model; default: the preset's."""
    stride: int | None = None
    """Where the backbone is cut: image size over map size; default: the preset's."""
    image_size: int | None = None
    """Side of the square input in pixels; default: the preset's."""
    width: int | None = None
    """d: channels of the maps behind the backbone; default: the preset's."""
    block: Literal["published", "paper"] = "published"
    """Residual block of the published code, or of the paper's Table 5."""
    answer: Literal["logits", "probabilities"] = "logits"
    """What is averaged over the strata: logits (Eq. 9) or probabilities (Eq. 2)."""
    margin: float | None = None
    """Side of the runtime's square crop over the longer side of the face; default: the preset's."""
    alignment: Alignment | None = None
    """What a crop follows: `landmarks`: all five; `eyes`: the box, turned by the line of the eyes; `none`: the box."""

    def config(self, expressions: tuple[str, ...], strata: tuple[str, ...]) -> ModelConfig:
        """The configuration of the network for these labels."""
        changes = {
            key: getattr(self, key)
            for key in ("backbone", "stride", "image_size", "width", "margin", "alignment")
            if getattr(self, key) is not None
        }
        return ModelConfig(
            preset=self.preset,
            expressions=expressions,
            strata=strata,
            method=self.method,
            block=self.block,
            answer=self.answer,
            **{**PRESETS[self.preset], **changes},
        )


@dataclass(frozen=True)
class Schedule:
    """A factor of the learning rates over the epochs, computed for each iteration."""

    warmup: float = 5
    """Epochs in which the factor rises from 0 to 1 (published: 5)."""
    constant: float = 15
    """Epochs after that at 1 (published: 15)."""
    decay: Literal["linear", "cosine"] = "linear"
    """How the factor falls to 0 in the remaining epochs (published: linear)."""

    def factor(self, epoch: float, epochs: int) -> float:
        """-> the factor at a fractional epoch of `epochs`, in (0, 1]."""
        if epoch < self.warmup:
            return max(epoch, 1e-3) / self.warmup
        start = self.warmup + self.constant
        if epoch <= start:
            return 1.0
        done = min(1.0, (epoch - start) / max(epochs - start, 1e-9))
        return max(1e-4, 1 - done if self.decay == "linear" else (1 + math.cos(math.pi * done)) / 2)


@dataclass(frozen=True)
class Recipe:
    """One training run."""

    data: Path
    """Folder with manifest.csv, or with folders <confounder>/<expression>/. `cartoon`: faces that the command draws."""
    more_data: list[Path] = field(default_factory=list)
    """More folders of the same form. Their training split is trained on too; the rest of them is not used."""
    out: Path = Path("runs/iern")
    """Folder for ckpt.pt (best on validation), last.pt (for --resume) and the files of TensorBoard."""
    resume: bool = False
    """Continue the run in `out` from its last.pt. With more `epochs` than before it becomes longer."""
    model: ModelRecipe = field(default_factory=ModelRecipe)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    schedule: Schedule = field(default_factory=Schedule)
    expressions: list[str] | None = None
    """The expressions of the network, in the order of its outputs; default: those of the data, sorted."""
    votes: bool = True
    """Use the vote counts of the manifest as soft targets, if it has some."""
    strata: Literal["data", "conditions"] = "data"
    """The confounder. `data`: the confounder column of the data. `conditions`: the capture condition. Training then
    draws one for each face in each epoch: as taken, old grey film, a cold sharp camera, or a dim blurred one."""
    teachers: list[Path] = field(default_factory=list)
    """Checkpoints whose mean prediction for a face and its mirror image becomes part of its target."""
    teachers_share: float = 0.5
    """Share of the teachers in a target, 0 to 1."""
    valid_share: float = 0.1
    """Share of the training data that is kept apart to choose the best epoch. Not used if the manifest has a `valid`
    split."""
    select: Literal["accuracy", "mean_recall"] = "accuracy"
    """The figure on the validation faces that decides which epoch is best."""
    augment: Literal["none", "paper", "webcam"] = "paper"
    """Random changes to training faces: none, the published ones, or those of webcams."""
    whole_share: float = 1.0
    """Share of the samples in which a training image is used whole, as the data set cropped it. The others are cut out
    of it as the runtime does, where the detector finds a face, and so are all faces of portraits. Below 1 the detector
    looks at each image first."""
    resample: Resample = "none"
    """What an epoch draws equally often. `none`: each face, once. `expression`: each expression. `cell`: each pair of
    expression and confounder in the data. The length of an epoch stays the same."""
    resample_strength: float = 1.0
    """How much `resample` does, 0 to 1. A group of c faces is drawn in proportion to c ** (1 - strength). With 1 a cell
    of one face fills as much of an epoch as any other."""
    mixup: float = 0.0
    """alpha of mixup between faces of one stratum in a batch; 0: off."""
    epochs: int = 160
    """Passes over the training faces. The schedule follows them, also if a resumed run has more than before."""
    batch_size: int = 8
    """Faces in a batch of one process (published: 8)."""
    ema: float = 0.0
    """Decay of an exponential average of the weights. The average is then validated and kept. 0: off."""
    seed: int = 0
    """Seed of all random numbers of a run."""
    workers: int = 2
    """Processes that read and change images; 0: the training process does it."""
    save_every: int = 500
    """Iterations between checkpoints inside an epoch; 0: only at its end."""
    verify: bool = True
    """Read every image once before training, so that a broken one is found early."""
    data_name: str = ""
    """The training data in words, for the exported file; default: the name of the folder."""
    licence: str = ""
    """Licence of the training data, for the exported file."""
    accelerator: str = "auto"
    """Device type: `auto`, `cpu` or `cuda` (Lightning Fabric)."""
    devices: int = 1
    """Training processes on this machine, one for each GPU."""
    nodes: int = 1
    """Number of machines. Start the same command on each of them with torchrun."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    """Number format of the forward pass. The mixed ones are faster on GPUs."""

    def identity(self) -> dict[str, Any]:
        """The fields that must not change when a run is resumed: those that its losses depend on."""
        free = {"out", "resume", "workers", "save_every", "verify", "accelerator", "devices", "nodes"}
        free |= {"data_name", "licence"}
        return {k: v for k, v in self.as_dict().items() if k not in free}

    def as_dict(self) -> dict[str, Any]:
        """All fields, in plain types."""
        return {k: _plain(v) for k, v in dataclasses.asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
