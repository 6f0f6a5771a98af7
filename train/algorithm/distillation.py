"""Distillation: the mean prediction of trained networks becomes part of a face's target (Hinton et al. 2015)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from iern.runtime.errors import TrainingError
from iern.train.algorithm.batch import Batch
from iern.train.network.checkpoint import load_checkpoint
from iern.train.network.config import ModelConfig
from iern.train.network.iern import Baseline


def load_teachers(paths: Sequence[Path], config: ModelConfig, device: torch.device) -> list[Baseline]:
    """The networks of the checkpoints, as teachers for a network of `config`.

    Raises CheckpointError for a file that is no checkpoint, and TrainingError if its expressions or its input size
    differ.
    """
    teachers = []
    for path in paths:
        checkpoint = load_checkpoint(path)
        own = checkpoint.config
        if (own.expressions, own.image_size) != (config.expressions, config.image_size):
            raise TrainingError(
                f"{path}: this teacher predicts {', '.join(own.expressions)} at {own.image_size} px, and the recipe "
                f"{', '.join(config.expressions)} at {config.image_size} px; both must be the same"
            )
        teachers.append(checkpoint.model().requires_grad_(False).to(device).to(memory_format=torch.channels_last))
    return teachers


@torch.no_grad()
def distil(batch: Batch, teachers: Sequence[Baseline], share: float) -> Batch:
    """The batch, with `share` of each target replaced by the mean probabilities of the teachers.

    The teachers see the faces of the batch, after augmentation and mixup, and their mirror images. Raises TrainingError
    for a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise TrainingError(f"teachers_share is {share}; expected 0 (labels only) to 1 (teachers only)")
    faces = torch.cat([batch.faces, batch.faces.flip(2)])
    probabilities = [
        teacher(teacher.normalise(faces).contiguous(memory_format=torch.channels_last)).float().softmax(dim=1)
        for teacher in teachers
    ]
    of_both = torch.stack(probabilities).mean(dim=0).unflatten(0, (2, -1))
    return dataclasses.replace(batch, expression=torch.lerp(batch.expression, of_both.mean(dim=0), share))
