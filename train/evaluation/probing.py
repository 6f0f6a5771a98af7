"""Linear probes: how well a label can be read from the frozen features of a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader

from iern.runtime.errors import DataError
from iern.train.data.conditions import STRATA
from iern.train.data.dataset import FaceDataset, RandomChanges
from iern.train.data.manifest import load_data
from iern.train.evaluation.bootstrap import resampling_units
from iern.train.network.checkpoint import load_checkpoint
from iern.train.network.iern import Baseline

FOLDS = 5
"""Folds of the cross-validation."""


def probe(checkpoint: Path, data: Path, split: str) -> dict[str, Any]:
    """feature -> label -> figures of `linear_probe`, over a split of `data`.

    The labels are `expression` and `confounder`, as the data gives it. If the strata of the network are capture
    conditions, every face is changed by one of them first, and `condition` is a label too. Raises IernError.
    """
    model = load_checkpoint(checkpoint).model()
    config = model.config
    labelled = load_data(data, config.expressions).split(split)
    under_conditions = config.strata == STRATA
    faces = FaceDataset(labelled, config.input, config.strata, RandomChanges(under_conditions=under_conditions))
    labels = {
        "expression": [config.expressions[face.expression] for face in labelled],
        "confounder": [face.confounder for face in labelled],
    }
    if under_conditions:
        labels["condition"] = [STRATA[stratum] for _, _, stratum, _ in faces]
    units = resampling_units(labelled)
    try:
        return {
            feature: {label: linear_probe(values, own, units) for label, own in labels.items()}
            for feature, values in pooled_features(model, faces).items()
        }
    except ValueError as error:
        raise DataError(f"{data}: {error}") from error


@torch.inference_mode()
def pooled_features(model: Baseline, faces: FaceDataset, batch_size: int = 64) -> dict[str, NDArray[np.float32]]:
    """n faces -> (n, d) features by name, after the global average pool, in eval mode. See `Baseline.features`."""
    training = model.training
    model.eval()
    parts: dict[str, list[NDArray[np.float32]]] = {}
    for batch, *_ in DataLoader(faces, batch_size=batch_size):
        image = model.normalise(batch).contiguous(memory_format=torch.channels_last)
        for name, feature in model.features(image).items():
            parts.setdefault(name, []).append(feature.mean(dim=(2, 3)).float().numpy())
    model.train(training)
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def linear_probe(features: NDArray[np.float32], labels: Sequence[str], subjects: Sequence[str]) -> dict[str, Any]:
    """(n, d) features -> the accuracy of a logistic regression that reads `labels` from them.

    It is cross-validated with all faces of a subject in one fold. `chance` is one over the number of labels, `majority`
    the share of the most frequent label. Raises ValueError for fewer than 2 labels or subjects.
    """
    counts = np.unique(np.asarray(labels), return_counts=True)[1]
    groups = len(set(subjects))
    if len(counts) < 2 or groups < 2:
        raise ValueError(f"found {len(counts)} labels of {groups} subjects; a probe needs at least 2 of both")
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    read = cross_val_predict(regression, features, labels, groups=subjects, cv=GroupKFold(min(FOLDS, groups)))
    return {
        "n": len(features),
        "accuracy": float(np.mean(read == np.asarray(labels))),
        "chance": 1 / len(counts),
        "majority": float(counts.max() / counts.sum()),
    }
