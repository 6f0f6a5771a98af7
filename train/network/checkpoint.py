"""`ckpt.pt`: one file of plain types and tensors, read with `weights_only=True` and written atomically."""

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
    """What rebuilds a network, and where it came from."""

    config: ModelConfig
    weights: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)
    """`data`, `licence`, `seed`, `epoch`, `versions`, `recipe` and others."""
    metrics: dict[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    """Divides the logits before the softmax; 1 if it was not fitted."""
    threshold: float = 0.0
    """A face whose largest probability is smaller is uncertain; 0 (never) if it was not fitted."""
    prior: tuple[float, ...] = ()
    """How frequent each of the E expressions is where the probabilities hold; empty if that is unknown."""
    training: dict[str, Any] | None = None
    """Optimisers, averages and position, for `--resume`; None in files that cannot be resumed."""

    def model(self) -> Baseline:
        """The network with these weights, in eval mode. Raises CheckpointError if they do not fit."""
        model = build(self.config)
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            raise CheckpointError(f"the weights do not fit the configuration: {one_line(error)}") from error
        return model.eval()


def save_checkpoint(checkpoint: Checkpoint, path: Path | str) -> None:
    """Write whole or not at all. NumPy values become Python's, so that the file loads with `weights_only=True`.

    Raises OutputError if the file cannot be written.
    """
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": checkpoint.config.to_dict(),
        "weights": {name: tensor.detach().cpu() for name, tensor in checkpoint.weights.items()},
        "provenance": checkpoint.provenance,
        "metrics": checkpoint.metrics,
        "temperature": checkpoint.temperature,
        "threshold": checkpoint.threshold,
        "prior": checkpoint.prior,
        "training": checkpoint.training,
    }
    write_tensors(plain(content), path)


def write_tensors(content: Any, path: Path | str) -> None:
    """`torch.save`, whole or not at all. Raises OutputError if the file cannot be written."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch hides the system's error behind one of its own
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint onto the CPU. Raises CheckpointError if the file is no complete checkpoint of this project."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint written by train/fit.py")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: the file is empty; expected a checkpoint written by train/fit.py")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for files that are not its own
        raise CheckpointError(
            f"{path}: not a checkpoint that can be read safely, or cut off ({one_line(error)}); "
            "expected a file written by train/fit.py"
        ) from error
    return parse_checkpoint(content, path)


def parse_checkpoint(content: Any, path: Path) -> Checkpoint:
    """What `torch.load` returned for `path` -> checkpoint. Raises CheckpointError as `load_checkpoint` does."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        keys = list(content)[:4] if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            f"{path}: a PyTorch file, but not of this project (found {keys}); use one of train/fit.py, "
            "or convert the authors' files with train/convert_published.py"
        )
    if content["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: has format {content['format_version']}, this version reads {FORMAT_VERSION}; train it again"
        )
    try:
        return Checkpoint(
            config=ModelConfig.from_dict(content["config"]),
            threshold=content.get("threshold", 0.0),  # the first files of this format have none of these two
            prior=tuple(content.get("prior", ())),
            **{key: content[key] for key in ("weights", "provenance", "metrics", "temperature", "training")},
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: incomplete ({one_line(error)}); train it again") from error


def plain(value: Any) -> Any:
    """The same value in Python's own types and tensors. Raises TypeError if it holds anything else."""
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
    """The versions of those of `packages` that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
