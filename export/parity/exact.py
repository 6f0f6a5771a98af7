"""The parity gate of the float32 file: the same faces through the network in float64, in float32, and the file.

The network in float64 is the reference. It runs as published, one stratum after another, with a plain normalisation of
its own, so it shares only the weights with the deconfounded form. The differences between strata are small compared
with the logits, so the error is also compared with the spread between strata.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from iern.export.parity.model_outputs import (
    FACES_PER_BATCH,
    ModelOutputs,
    deviations,
    joined,
    outputs_of_file,
    three_digits,
)
from iern.train.network.config import ModelConfig
from iern.train.network.iern import Baseline, average_strata

LOGITS_LIMIT = 1e-4
"""Largest difference of a logit, over the range of the logits."""
STRATA_LIMIT = 1e-3
"""Largest error of a stratum's deviation from the mean of the strata, over the largest spread between strata."""
SMALLEST_SPREAD = 1e-3
"""Share of the logit range. A smaller spread counts as this, because float32 does not resolve a thousandth of it."""
PROBABILITIES_LIMIT = 1e-4
"""Largest difference of a probability."""
LIMITS = {"logits": LOGITS_LIMIT, "strata": STRATA_LIMIT, "probabilities": PROBABILITIES_LIMIT, "argmax_changes": 0}
"""The limits of every form, named as the fields of `Difference`."""

FLOAT32, ONNXRUNTIME = "torch float32", "onnxruntime"


@dataclass(frozen=True)
class Difference:
    """The largest differences of one form from the reference, over all faces. NaN or infinity if an output is."""

    logits: float
    """Over the range of the reference's logits."""
    strata: float
    """Over the reference's largest spread between strata, see SMALLEST_SPREAD. 0 with one stratum."""
    probabilities: float
    argmax_changes: int
    """Faces with another first expression. An expression that ties for the first in the reference does not count."""


@dataclass(frozen=True)
class ExactParity:
    """The gate's result: `passed` decides, `table()` is printed, and `to_dict()` is stored in the artifact."""

    faces: int
    logit_range: float
    """Largest minus smallest logit of the reference."""
    strata_spread: float
    """Largest difference between two strata of one face and expression, in the reference's logits."""
    forms: Mapping[str, Difference]

    @property
    def failures(self) -> list[str]:
        """One line for each form and limit that it exceeds. Empty if there are none."""
        found = []
        for form, difference in self.forms.items():
            for name, limit in LIMITS.items():
                value = getattr(difference, name)
                if not value <= limit:  # so that NaN fails
                    found.append(f"{form}: {name} differ by {value:.3g}, over the limit of {limit:.3g}")
        return found

    @property
    def passed(self) -> bool:
        """Whether every form is within every limit."""
        return not self.failures

    def table(self) -> str:
        """The numbers as lines for a terminal, one line for each form."""
        rows = [
            ("", "logits / range", "strata / spread", "probabilities", "argmax changes"),
            *(_row(form, asdict(difference)) for form, difference in self.forms.items()),
            _row("limit", LIMITS),
        ]
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{row[0]:<{width}}" + "".join(f"  {cell:>15}" for cell in row[1:]) for row in rows)

    def to_dict(self) -> dict[str, Any]:
        """The result in plain types."""
        return three_digits(asdict(self))


@np.errstate(invalid="ignore")  # NaN fails the gate
def check_exact_parity(
    model: Baseline, onnx_file: bytes, faces: NDArray[np.uint8], temperature: float = 1.0
) -> ExactParity:
    """Compare the forms on (n, S, S, 3) uint8 BGR faces. `temperature` is the one that the file was exported with."""
    reference = outputs_of_network(model, faces, temperature, torch.float64)
    forms = {
        FLOAT32: outputs_of_network(model, faces, temperature, torch.float32),
        ONNXRUNTIME: outputs_of_file(onnx_file, faces),
    }
    return ExactParity(
        faces=len(faces),
        logit_range=float(np.ptp(reference.logits)),
        strata_spread=_spread(reference),
        forms={name: compare(reference, outputs) for name, outputs in forms.items()},
    )


def outputs_of_network(
    model: Baseline, faces: NDArray[np.uint8], temperature: float, dtype: torch.dtype
) -> ModelOutputs:
    """(n, S, S, 3) faces through the network as trained, one stratum after another. The model is not changed."""
    network = network_as_trained(model, temperature, dtype)
    starts = range(0, len(faces), FACES_PER_BATCH)
    return joined(network(faces[start : start + FACES_PER_BATCH]) for start in starts)


def network_as_trained(
    model: Baseline, temperature: float, dtype: torch.dtype
) -> Callable[[NDArray[np.uint8]], ModelOutputs]:
    """A function of a batch of (b, S, S, 3) faces: the network as trained, one stratum after another, in `dtype`.

    It works on a copy of the model, and several threads may call it.
    """
    model = copy.deepcopy(model).to(dtype).eval()

    @torch.inference_mode()
    def outputs(faces: NDArray[np.uint8]) -> ModelOutputs:
        images = torch.from_numpy(normalised(faces, model.config)).to(dtype)
        stratum_logits = model.stratum_logits(images).double()
        probabilities = average_strata(stratum_logits / temperature, model.config.answer)
        return ModelOutputs(probabilities.numpy(), stratum_logits.mean(dim=1).numpy(), stratum_logits.numpy())

    return outputs


def normalised(faces: NDArray[np.uint8], config: ModelConfig) -> NDArray[np.float64]:
    """(n, S, S, 3) BGR -> (n, 3, S, S) RGB, mean subtracted and divided by the standard deviation."""
    rgb = faces[..., ::-1] / 255.0
    return np.ascontiguousarray(((rgb - config.mean) / config.std).transpose(0, 3, 1, 2))


def compare(reference: ModelOutputs, other: ModelOutputs) -> Difference:
    """The difference of `other` from `reference`."""
    logit_range = float(np.ptp(reference.logits))
    spread = max(_spread(reference), SMALLEST_SPREAD * logit_range)
    logits = max(_largest(other.logits - reference.logits), _largest(other.stratum_logits - reference.stratum_logits))
    strata = _largest(deviations(other.stratum_logits) - deviations(reference.stratum_logits))
    return Difference(
        logits=_ratio(logits, logit_range),
        strata=_ratio(strata, spread),
        probabilities=_largest(other.probabilities - reference.probabilities),
        argmax_changes=_argmax_changes(reference.probabilities, other.probabilities),
    )


def _spread(outputs: ModelOutputs) -> float:
    """The largest difference between two strata of one face and expression."""
    return float(np.ptp(outputs.stratum_logits, axis=1).max())


def _argmax_changes(reference: NDArray[np.float64], other: NDArray[np.float64]) -> int:
    """The number of rows where the other's first column is not among the reference's largest."""
    of_others_first = np.take_along_axis(reference, other.argmax(axis=1)[:, None], axis=1)[:, 0]
    return int((of_others_first != reference.max(axis=1)).sum())


def _largest(difference: NDArray[np.float64]) -> float:
    return float(np.abs(difference).max())


def _ratio(error: float, scale: float) -> float:
    """error / scale. At scale 0: 0 without an error, infinity with one."""
    if error == 0:
        return 0.0
    return error / scale if scale > 0 else float("inf")


def _row(name: str, values: Mapping[str, float]) -> tuple[str, ...]:
    *errors, changes = values.values()
    return name, *(f"{error:.1e}" for error in errors), str(changes)
