"""Predictions of a network for a list of faces; several processes can share the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import Subset

from iern.train.data.dataset import FaceDataset
from iern.train.data.loader import face_loader
from iern.train.network.iern import Baseline, average_strata, stratum_names


@torch.inference_mode()
def predict_batch(model: Baseline, faces: Tensor, fabric: Fabric) -> Tensor:
    """(n, S, S, 3) uint8 faces -> (n, N, E) float32 logits under each stratum, of a network in eval mode."""
    image = model.normalise(faces.to(fabric.device)).contiguous(memory_format=torch.channels_last)
    with fabric.autocast():
        return model.stratum_logits(image).float()


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

    Each process writes the logits of every world_size-th face into its own table of zeros, and the tables are summed.
    There is no padding, so no face counts twice. A process without a face takes part in the sum.

    `on_batch` is called with the number of faces of each batch.
    """
    own = range(fabric.global_rank, len(faces), fabric.world_size)
    strata = len(stratum_names(model.config))
    table = torch.zeros(len(faces), strata, len(model.config.expressions), device=fabric.device)
    training = model.training
    model.eval()
    for batch, _, _, index in face_loader(Subset(faces, own), workers, batch_size=batch_size):
        table[index.to(fabric.device)] = predict_batch(model, batch, fabric)
        on_batch(len(index))
    model.train(training)
    if fabric.world_size > 1:
        table = cast(Tensor, fabric.all_reduce(table, reduce_op="sum"))
    return table.cpu()


@torch.inference_mode()
def predict(model: Baseline, faces: FaceDataset, fabric: Fabric, workers: int = 0) -> Tensor:
    """n faces -> (n, E) float32 probabilities averaged over the strata, on the CPU, the same on every process."""
    return average_strata(predict_strata(model, faces, fabric, workers=workers), model.config.answer)
