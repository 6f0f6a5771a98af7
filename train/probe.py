"""Disentanglement, measured: can a fresh linear probe read a label from frozen features?

That d_c stands at chance on emotion features shows nothing: d_c never trains on them, so g_e may have left its domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader

from iern.train.data import FaceDataset
from iern.train.model import Baseline, Disentanglement

FOLDS = 5


@torch.inference_mode()
def pooled_features(model: Baseline, faces: FaceDataset, batch_size: int = 64) -> dict[str, NDArray[np.float32]]:
    """n faces -> (n, d) features after the global average pool, in eval mode: `base` f_b(x), and where the method has
    them `emotion` g_e(f_b(x)) and `context` g_c(f_b(x))."""
    training = model.training
    model.eval()
    parts: dict[str, list[NDArray[np.float32]]] = {}
    for batch, *_ in DataLoader(faces, batch_size=batch_size):
        base = model.backbone(model.normalise(batch).contiguous(memory_format=torch.channels_last))
        maps = {"base": base}
        if isinstance(model, Disentanglement):
            maps |= {"emotion": model.emotion_generator(base), "context": model.context_generator(base)}
        for name, feature in maps.items():
            parts.setdefault(name, []).append(feature.mean(dim=(2, 3)).float().numpy())
    model.train(training)
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def linear_probe(features: NDArray[np.float32], labels: Sequence[str], subjects: Sequence[str]) -> dict[str, Any]:
    """(n, d) features -> how well a logistic regression reads `labels` from them, cross-validated with subjects apart.

    `accuracy`, beside `chance` (one over the number of labels) and `majority` (the commonest label's share). Raises
    ValueError for fewer than 2 labels or subjects.
    """
    counts = np.unique(np.asarray(labels), return_counts=True)[1]
    groups = len(set(subjects))
    if len(counts) < 2 or groups < 2:
        raise ValueError(f"found {len(counts)} labels of {groups} subjects; a probe needs at least 2 of both")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    answers = cross_val_predict(probe, features, labels, groups=subjects, cv=GroupKFold(min(FOLDS, groups)))
    return {
        "n": len(features),
        "accuracy": float(np.mean(answers == np.asarray(labels))),
        "chance": 1 / len(counts),
        "majority": float(counts.max() / counts.sum()),
    }
