"""The parity gate: the same faces through the sequential network in float64, in float32, and the exported file.

The float64 twin is the published way, one stratum after another, with its own plain normalisation, so it shares
nothing with the deconfounded form but the weights. What the strata change is small beside the logits, so the error is
also measured against the spread between them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from iern.export.parity.answers import BATCH, ModelOutputs, answers_of_onnxruntime, deviations, softmax, three_digits
from iern.train.network.config import ModelConfig
from iern.train.network.iern import Baseline

LOGITS_LIMIT = 1e-4
"""Largest logit difference, over the range of the logits."""
STRATA_LIMIT = 1e-3
"""Largest error of a stratum's deviation from the mean of the strata, over the largest spread between strata."""
SMALLEST_SPREAD = 1e-3
"""Share of the logit range; a smaller spread counts as this, since float32 resolves no thousandth of it."""
PROBABILITIES_LIMIT = 1e-4
"""Largest difference of a probability."""
LIMITS = {"logits": LOGITS_LIMIT, "strata": STRATA_LIMIT, "probabilities": PROBABILITIES_LIMIT, "argmax_changes": 0}
"""Of every form, named as the fields of `Difference`."""

FLOAT32, ONNXRUNTIME = "torch float32", "onnxruntime"


@dataclass(frozen=True)
class Difference:
    """How far one form is from the float64 twin, largest over all faces; NaN or infinity where an answer is."""

    logits: float
    """Over the range of the twin's logits."""
    strata: float
    """Over the twin's largest spread between strata, see SMALLEST_SPREAD; 0 with one stratum."""
    probabilities: float
    argmax_changes: int
    """Faces with another first expression; an exact tie of the twin's is none."""


@dataclass(frozen=True)
class Parity:
    """What the gate found. `passed` decides, `table()` shows, `to_dict()` is stored in the artifact."""

    faces: int
    logit_range: float
    """Largest minus smallest logit of the twin."""
    strata_spread: float
    """Largest difference between two strata of one face and expression, in logits of the twin."""
    forms: Mapping[str, Difference]

    @property
    def failures(self) -> list[str]:
        """One line for each form and limit that it exceeds; empty where all agree."""
        found = []
        for form, difference in self.forms.items():
            for name, limit in LIMITS.items():
                value = getattr(difference, name)
                if not value <= limit:  # so that NaN fails
                    found.append(f"{form}: {name} differ by {value:.3g}, over the limit of {limit:.3g}")
        return found

    @property
    def passed(self) -> bool:
        """Whether every form keeps every limit."""
        return not self.failures

    def table(self) -> str:
        """The numbers for a terminal, one line for each form."""
        rows = [
            ("", "logits / range", "strata / spread", "probabilities", "argmax changes"),
            *(_row(form, asdict(difference)) for form, difference in self.forms.items()),
            _row("limit", LIMITS),
        ]
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{row[0]:<{width}}" + "".join(f"  {cell:>15}" for cell in row[1:]) for row in rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return three_digits(asdict(self))


@np.errstate(invalid="ignore")  # NaN is told by the verdict
def check_parity(model: Baseline, onnx_file: bytes, faces: NDArray[np.uint8], temperature: float = 1.0) -> Parity:
    """Compare the forms on (n, S, S, 3) uint8 BGR faces. `temperature` is the one the file was exported with."""
    twin = answers_of_torch(model, faces, temperature, torch.float64)
    forms = {
        FLOAT32: answers_of_torch(model, faces, temperature, torch.float32),
        ONNXRUNTIME: answers_of_onnxruntime(onnx_file, faces),
    }
    return Parity(
        faces=len(faces),
        logit_range=float(np.ptp(twin.logits)),
        strata_spread=_spread(twin),
        forms={name: compare(twin, answers) for name, answers in forms.items()},
    )


@torch.inference_mode()
def answers_of_torch(model: Baseline, faces: NDArray[np.uint8], temperature: float, dtype: torch.dtype) -> ModelOutputs:
    """(n, S, S, 3) faces through the network as it was trained, one stratum after another; the model is not changed."""
    model = copy.deepcopy(model).to(dtype).eval()
    images = torch.from_numpy(normalised(faces, model.config)).to(dtype)
    stratum_logits = torch.cat([model.stratum_logits(batch) for batch in images.split(BATCH)]).double().numpy()
    logits = stratum_logits.mean(axis=1)
    if model.config.answer == "probabilities":
        probabilities = softmax(stratum_logits / temperature).mean(axis=1)
    else:
        probabilities = softmax(logits / temperature)
    return ModelOutputs(probabilities, logits, stratum_logits)


def normalised(faces: NDArray[np.uint8], config: ModelConfig) -> NDArray[np.float64]:
    """(n, S, S, 3) BGR -> (n, 3, S, S) RGB, mean subtracted and divided by the standard deviation."""
    rgb = faces[..., ::-1] / 255.0
    return np.ascontiguousarray(((rgb - config.mean) / config.std).transpose(0, 3, 1, 2))


def compare(twin: ModelOutputs, other: ModelOutputs) -> Difference:
    """How far `other` is from `twin`."""
    logit_range = float(np.ptp(twin.logits))
    spread = max(_spread(twin), SMALLEST_SPREAD * logit_range)
    logits = max(_largest(other.logits - twin.logits), _largest(other.stratum_logits - twin.stratum_logits))
    strata = _largest(deviations(other.stratum_logits) - deviations(twin.stratum_logits))
    return Difference(
        logits=_ratio(logits, logit_range),
        strata=_ratio(strata, spread),
        probabilities=_largest(other.probabilities - twin.probabilities),
        argmax_changes=_argmax_changes(twin.probabilities, other.probabilities),
    )


def _spread(answers: ModelOutputs) -> float:
    """Largest difference between two strata of one face and expression."""
    return float(np.ptp(answers.stratum_logits, axis=1).max())


def _argmax_changes(twin: NDArray[np.float64], other: NDArray[np.float64]) -> int:
    """Rows where the other's first column is not among the twin's largest."""
    chosen = np.take_along_axis(twin, other.argmax(axis=1)[:, None], axis=1)[:, 0]
    return int((chosen != twin.max(axis=1)).sum())


def _largest(difference: NDArray[np.float64]) -> float:
    return float(np.abs(difference).max())


def _ratio(error: float, scale: float) -> float:
    """error / scale, where no error is right at any scale, and any error wrong at scale 0."""
    if error == 0:
        return 0.0
    return error / scale if scale > 0 else float("inf")


def _row(name: str, values: Mapping[str, float]) -> tuple[str, ...]:
    *errors, changes = values.values()
    return name, *(f"{error:.1e}" for error in errors), str(changes)
