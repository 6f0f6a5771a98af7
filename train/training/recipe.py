"""What a training run is told: one YAML file under `recipes/`, any field overridden on the command line."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from iern.train.algorithm.algorithm1 import AlgorithmConfig
from iern.train.data.sampler import Resample
from iern.train.network.config import PRESETS, Method, ModelConfig


@dataclass(frozen=True)
class ModelRecipe:
    """The network: a preset, and what differs from it."""

    preset: Literal["paper", "edge"] = "edge"
    """`paper`: ResNet-50, 224 px, d 512. `edge`: MobileNet to stride 16, 112 px, d 104."""
    method: Method = "iern"
    """`iern`, or an ablation of the paper's Table 2: `disentanglement`, `baseline`."""
    weights: str = "imagenet"
    """The backbone's first weights: `imagenet`, `none`, or a file (timm state dict or a checkpoint of this project)."""
    backbone: str | None = None
    """Another timm model than the preset's."""
    stride: int | None = None
    """Where it is cut: image size over map size."""
    image_size: int | None = None
    """Side of the square input, pixels."""
    width: int | None = None
    """d, channels behind the backbone."""
    block: Literal["published", "paper"] = "published"
    """Residual block: the published implementation's, or Table 5's."""
    answer: Literal["logits", "probabilities"] = "logits"
    """Averaged over the strata: logits (Eq. 9) or probabilities (Eq. 2)."""

    def config(self, expressions: tuple[str, ...], strata: tuple[str, ...]) -> ModelConfig:
        """The frozen description, for these labels."""
        changes = {
            key: getattr(self, key)
            for key in ("backbone", "stride", "image_size", "width")
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
    """The learning rate over the epochs, as a factor; evaluated at every iteration."""

    warmup: float = 5
    """Epochs of linear rise (published: 5)."""
    constant: float = 15
    """Epochs at the full rate (published: 15)."""
    decay: Literal["linear", "cosine"] = "linear"
    """How it falls to 0 over the epochs that are left (published: linear)."""

    def factor(self, epoch: float, epochs: int) -> float:
        """Factor at a fractional epoch of `epochs`, in (0, 1]."""
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
    """Folder with manifest.csv, or <confounder>/<expression>/ folders; or `cartoon`: faces drawn by this program."""
    out: Path = Path("runs/iern")
    """Where ckpt.pt (best on validation), last.pt (for --resume) and TensorBoard's files go."""
    resume: bool = False
    """Continue the run in `out` where its last.pt stands."""
    model: ModelRecipe = field(default_factory=ModelRecipe)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    schedule: Schedule = field(default_factory=Schedule)
    expressions: list[str] | None = None
    """The model's expressions in order; none: those in the data, sorted."""
    votes: bool = True
    """Use the manifest's vote counts as soft targets, where it has them."""
    strata: Literal["data", "conditions"] = "data"
    """The confounder: `data`: what the data gives as such; `conditions`: the capture condition that each training face
    is put under, drawn anew an epoch: as taken, old grey film, a cold sharp camera, a dim blurred one."""
    teachers: list[Path] = field(default_factory=list)
    """Checkpoints whose mean answer to a face and its mirror image is part of its target."""
    teachers_share: float = 0.5
    """Which part: 0 to 1."""
    valid_share: float = 0.1
    """Share of the training data held out to choose the best epoch, where the manifest has no `valid` split."""
    select: Literal["accuracy", "mean_recall"] = "accuracy"
    """What is best on validation."""
    augment: Literal["none", "paper", "webcam"] = "paper"
    """Random changes to training faces."""
    resample: Resample = "none"
    """What is met equally often in an epoch, which stays as long: `none`: each face, once; `expression`; or `cell`: the
    pairs of expression and confounder that the data has."""
    resample_strength: float = 1.0
    """Below 1 the rare stay rarer: a group of c faces is drawn in proportion to c ** (1 - strength). A cell of one face
    would otherwise fill as much of the epoch as any other."""
    mixup: float = 0.0
    """alpha of mixup between faces of one stratum and batch; 0: off."""
    epochs: int = 160
    batch_size: int = 8
    """A process (published: 8)."""
    ema: float = 0.0
    """Decay of an exponential average of the weights, which is then validated and kept; 0: off."""
    seed: int = 0
    workers: int = 2
    """Processes that read and augment; 0: in the training process."""
    save_every: int = 500
    """Iterations between checkpoints inside an epoch; 0: at its end only."""
    verify: bool = True
    """Decode every image once before training."""
    data_name: str = ""
    """The training data in words; stands in the exported file (default: the folder's name)."""
    licence: str = ""
    """Of the training data; stands in the exported file."""
    accelerator: str = "auto"
    """Auto, cpu, cuda (Lightning Fabric)."""
    devices: int = 1
    """Processes on this machine, one a GPU."""
    nodes: int = 1
    """Machines; start the same command on each under torchrun."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    """Mixed precision for GPUs."""

    def identity(self) -> dict[str, Any]:
        """What must not change when a run is resumed: everything that its losses depend on."""
        free = {"out", "resume", "workers", "save_every", "verify", "accelerator", "devices", "nodes"}
        free |= {"data_name", "licence"}
        return {k: _plain(v) for k, v in dataclasses.asdict(self).items() if k not in free}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
