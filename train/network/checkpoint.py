"""`ckpt.pt`: one file of plain types and tensors, read with `weights_only=True`, written whole or not at all."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iern.runtime.errors import CheckpointError, one_line
from iern.runtime.system.files import atomic_path
from iern.train.network.config import ModelConfig
from iern.train.network.iern import Baseline, build

FORMAT = "iern-checkpoint"
FORMAT_VERSION = 1


@dataclass
class Checkpoint:
    """Everything that rebuilds a model and says where it came from; `training` only where it can be resumed."""

    config: ModelConfig
    weights: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)
    """`data`, `licence`, `seed`, `epoch`, `versions`, `recipe`."""
    metrics: dict[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    """Divides the logits before the softmax of the answer; 1 where it was not fitted."""
    threshold: float = 0.0
    """A face whose largest probability is smaller is called uncertain; 0, never, where it was not chosen."""
    training: dict[str, Any] | None = None
    """Optimisers, averages, generators and position, for `--resume`."""

    def model(self) -> Baseline:
        """The network with these weights, in eval mode."""
        model = build(self.config)
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            raise CheckpointError(f"the weights do not fit the configuration: {one_line(error)}") from error
        return model.eval()


def save_checkpoint(checkpoint: Checkpoint, path: Path | str) -> None:
    """Write atomically. NumPy scalars and arrays become Python's, so that the file loads with `weights_only=True`."""
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": checkpoint.config.to_dict(),
        "weights": {name: tensor.detach().cpu() for name, tensor in checkpoint.weights.items()},
        "provenance": checkpoint.provenance,
        "metrics": checkpoint.metrics,
        "temperature": checkpoint.temperature,
        "threshold": checkpoint.threshold,
        "training": checkpoint.training,
    }
    with atomic_path(path) as temporary:
        torch.save(plain(content), temporary)


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint onto the CPU. Raises CheckpointError for anything that is not one of ours, whole."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint written by train/fit.py")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: the file is empty; expected a checkpoint written by train/fit.py")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are not its own
        raise CheckpointError(
            f"{path}: not a checkpoint that can be read safely, or cut off ({one_line(error)}); "
            "expected a file written by train/fit.py"
        ) from error
    return parse_checkpoint(content, path)


def parse_checkpoint(content: Any, path: Path) -> Checkpoint:
    """What `torch.load` gave for `path` -> checkpoint. Raises CheckpointError where it is not one of ours, whole."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        keys = list(content)[:4] if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            f"{path}: a PyTorch file, but not of this project (found {keys}); expected one written by train/fit.py, "
            "or convert the authors' files with train/convert_published.py"
        )
    if content["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: has format {content['format_version']}, this version reads {FORMAT_VERSION}; train it again"
        )
    try:
        return Checkpoint(
            config=ModelConfig.from_dict(content["config"]),
            threshold=content.get("threshold", 0.0),  # younger than the first files of this format
            **{key: content[key] for key in ("weights", "provenance", "metrics", "temperature", "training")},
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: incomplete ({one_line(error)}); train it again") from error


def plain(value: Any) -> Any:
    """The same value in Python's own types and tensors; raises TypeError for what is neither."""
    if isinstance(value, Mapping):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value] if isinstance(value, list) else tuple(plain(v) for v in value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str | bytes | Tensor):
        return value
    raise TypeError(f"a checkpoint holds plain types and tensors, found {type(value).__name__}")


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of `packages`; those not installed are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
