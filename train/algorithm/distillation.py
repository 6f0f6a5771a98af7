"""Distillation: trained networks whose mean answer is a part of what a face should be answered (Hinton et al. 2015)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from iern.runtime.errors import TrainingError
from iern.train.algorithm.algorithm1 import Batch
from iern.train.network.checkpoint import load_checkpoint
from iern.train.network.config import ModelConfig
from iern.train.network.iern import Baseline


def load_teachers(paths: Sequence[Path], config: ModelConfig, device: torch.device) -> list[Baseline]:
    """The checkpoints' networks, for a student of `config`.

    Raises CheckpointError for a file that is none, TrainingError for one of other expressions or of another input.
    """
    teachers = []
    for path in paths:
        checkpoint = load_checkpoint(path)
        own = checkpoint.config
        if (own.expressions, own.image_size) != (config.expressions, config.image_size):
            raise TrainingError(
                f"{path}: a teacher must answer the student's expressions ({', '.join(config.expressions)}) at its "
                f"{config.image_size} px; this one knows {', '.join(own.expressions)} at {own.image_size} px"
            )
        teachers.append(checkpoint.model().requires_grad_(False).to(device).to(memory_format=torch.channels_last))
    return teachers


@torch.no_grad()
def taught(batch: Batch, teachers: Sequence[Baseline], share: float) -> Batch:
    """The batch with `share` of each target replaced by the teachers' mean probabilities.

    A teacher is asked about the very faces that the student sees, changed and mixed as they are, and their mirror
    images. Raises TrainingError for a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise TrainingError(f"teachers_share is {share}; expected 0 (labels alone) to 1 (teachers alone)")
    faces = torch.cat([batch.faces, batch.faces.flip(2)])
    answers = [
        teacher(teacher.normalise(faces).contiguous(memory_format=torch.channels_last)).float().softmax(dim=1)
        for teacher in teachers
    ]
    by_view = torch.stack(answers).mean(dim=0).unflatten(0, (2, -1))
    return dataclasses.replace(batch, expression=torch.lerp(batch.expression, by_view.mean(dim=0), share))
