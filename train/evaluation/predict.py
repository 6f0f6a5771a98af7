"""Answers of a model on a list of faces, each counted once however many processes share the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import Subset

from iern.train.data.dataset import FaceDataset
from iern.train.data.loader import face_loader
from iern.train.network.iern import Baseline, average_strata


@torch.inference_mode()
def predict(
    model: Baseline,
    faces: FaceDataset,
    fabric: Fabric,
    batch_size: int = 64,
    workers: int = 0,
    on_batch: Callable[[int], None] = lambda count: None,
    temperature: float = 1.0,
) -> Tensor:
    """n faces -> (n, E) float32 probabilities on the CPU, the same on every process."""
    stratum_logits = predict_strata(model, faces, fabric, batch_size, workers, on_batch)
    return average_strata(stratum_logits / temperature, model.config.answer)


@torch.inference_mode()
def predict_strata(
    model: Baseline,
    faces: FaceDataset,
    fabric: Fabric,
    batch_size: int = 64,
    workers: int = 0,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Tensor:
    """n faces -> (n, N, E) float32 logits under each stratum on the CPU, the same on every process.

    Each process answers every world_size-th face into its rows of a table of zeros, and the tables are summed: no
    padding, so no face counts twice, and a process without a face still takes part.
    """
    own = range(fabric.global_rank, len(faces), fabric.world_size)
    strata = len(model.config.strata) if model.method == "iern" else 1
    table = torch.zeros(len(faces), strata, len(model.config.expressions), device=fabric.device)
    training = model.training
    model.eval()
    for batch, _, _, index in face_loader(Subset(faces, own), workers, batch_size=batch_size):
        image = model.normalise(batch.to(fabric.device)).contiguous(memory_format=torch.channels_last)
        with fabric.autocast():
            table[index.to(fabric.device)] = model.stratum_logits(image).float()
        on_batch(len(index))
    model.train(training)
    if fabric.world_size > 1:
        table = cast(Tensor, fabric.all_reduce(table, reduce_op="sum"))
    return table.cpu()
