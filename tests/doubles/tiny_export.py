"""Small networks as exported files, and answers made up for the gates that compare them."""

from __future__ import annotations

import numpy as np
import torch

from iern.export.graph.deconfound import deconfound
from iern.export.graph.onnx_graph import export_onnx
from iern.export.parity.answers import ModelOutputs, softmax
from iern.runtime.artifact import Artifact
from iern.train.network.iern import Baseline


def exported_tiny(model: Baseline, trunk: torch.dtype | None = None) -> bytes:
    """Content of the file of a network, its trunk in another type where one is given."""
    config = model.config
    strata = config.strata if config.method == "iern" else ("all",)
    artifact = Artifact(expressions=config.expressions, strata=strata, input=config.input, answer=config.answer)
    return export_onnx(deconfound(model, trunk=trunk), artifact)


def made_up(stratum_logits: np.ndarray) -> ModelOutputs:
    """(n, N, E) logits under each stratum -> the answers that follow from them."""
    logits = stratum_logits.mean(axis=1)
    return ModelOutputs(softmax(logits), logits, stratum_logits)
