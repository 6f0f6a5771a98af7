"""Small networks as exported files, and made-up outputs for the gates that compare them."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from iern.export.graph.deconfound import deconfound
from iern.export.graph.onnx_graph import export_onnx
from iern.export.parity.model_outputs import ModelOutputs
from iern.runtime.artifact import Artifact
from iern.runtime.intervention import softmax
from iern.train.network.iern import Baseline, stratum_names

_EXPORTED: dict[tuple[object, ...], bytes] = {}
"""What was exported, by configuration, number type and weights."""


def exported_tiny(model: Baseline, trunk: torch.dtype | None = None) -> bytes:
    """The content of a network's file. `trunk` is the number type before the tail, float32 by default.

    A process exports the same weights only once, because that takes a second.
    """
    config = model.config
    weights = [(name, hashlib.sha256(value.numpy()).digest()) for name, value in model.state_dict().items()]
    key = (config, trunk, *weights)
    if key not in _EXPORTED:
        artifact = Artifact(config.expressions, stratum_names(config), config.input, answer=config.answer)
        _EXPORTED[key] = export_onnx(deconfound(model, trunk=trunk), artifact)
    return _EXPORTED[key]


def made_up(stratum_logits: np.ndarray) -> ModelOutputs:
    """(n, N, E) logits in each stratum -> the outputs that follow from them."""
    logits = stratum_logits.mean(axis=1)
    return ModelOutputs(softmax(logits), logits, stratum_logits)
