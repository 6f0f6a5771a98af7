"""The gate of a file whose strata are collapsed into one: the same faces through it and through the network as trained.

The network is the reference. It runs in float64, one stratum after another. What the file loses on purpose, the
differences between the strata, has no limit, but their size is recorded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from iern.export.parity.batches import FACES_PER_BATCH, Track, in_batches
from iern.export.parity.exact import network_as_trained
from iern.export.parity.model_outputs import (
    ModelOutputs,
    flips,
    joined,
    limits_table,
    outputs_of_session,
    three_digits,
)
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.intervention import stratum_disagreement
from iern.train.network.iern import Baseline

AGREEMENT_LIMIT = 0.995
"""Smallest share of faces with the network's first expression."""
FLIP_LIMIT = 1e-3
"""Largest lead, in probability, of a first expression that changes."""
PROBABILITIES_LIMIT = 1e-2
"""Largest difference of a probability."""


@dataclass(frozen=True)
class CollapsedParity:
    """The gate's result on `faces` images."""

    faces: int
    agreement: float
    """Share of faces with the network's first expression."""
    widest_flip: float
    """Largest lead, in the network's probabilities, of a first expression that is no longer the first."""
    probabilities: float
    """Largest difference of a probability. NaN if one is."""
    disagreement: float
    """Mean disagreement of the network's strata, see `stratum_disagreement`. The file no longer has it."""

    @property
    def failures(self) -> list[str]:
        """One line for each limit that is not kept. Empty if there are none. NaN keeps no limit."""
        checks = [
            (
                self.agreement >= AGREEMENT_LIMIT,
                f"{self.agreement:.2%} of the faces keep their first expression, limit {AGREEMENT_LIMIT:.1%}",
            ),
            (
                self.widest_flip <= FLIP_LIMIT,
                f"a first expression with a lead of {self.widest_flip:.1e} changed, limit {FLIP_LIMIT}",
            ),
            (
                self.probabilities <= PROBABILITIES_LIMIT,
                f"probabilities differ by {self.probabilities:.1e}, limit {PROBABILITIES_LIMIT}",
            ),
        ]
        return [failure for kept, failure in checks if not kept]

    def table(self) -> str:
        """The numbers as lines for a terminal."""
        rows = [
            ("same first expression", f"{self.agreement:.2%}", f"at least {AGREEMENT_LIMIT:.1%}"),
            ("widest flip", f"{self.widest_flip:.1e}", f"at most {FLIP_LIMIT:.0e}"),
            ("probabilities", f"{self.probabilities:.1e}", f"at most {PROBABILITIES_LIMIT:.0e}"),
            ("disagreement of the strata", f"{self.disagreement:.1e}", "in the network, no longer in the file"),
        ]
        return limits_table(rows)

    def to_dict(self) -> dict[str, Any]:
        """The result in plain types for the artifact."""
        return three_digits(asdict(self))


def check_collapsed_parity(
    model: Baseline,
    onnx_file: bytes,
    faces: NDArray[np.uint8],
    temperature: float = 1.0,
    track: Track = iter,
) -> CollapsedParity:
    """Compare a file with one stratum, run by onnxruntime, with the network of N strata that it was made from.

    `faces` are (n, S, S, 3) uint8 BGR. `track` may wrap the batches to show progress.
    """
    network = network_as_trained(model, temperature, torch.float64)
    with OnnxSession(onnx_file, provider="cpu", max_batch=FACES_PER_BATCH) as session:

        def outputs_of_both(batch: NDArray[np.uint8]) -> tuple[ModelOutputs, ModelOutputs]:
            return network(batch), outputs_of_session(session, batch)

        pairs = in_batches(outputs_of_both, faces, track)
    reference, file = map(joined, zip(*pairs, strict=True))
    return compare_collapsed(reference, file, temperature)


@np.errstate(invalid="ignore")  # NaN fails the gate
def compare_collapsed(reference: ModelOutputs, collapsed: ModelOutputs, temperature: float = 1.0) -> CollapsedParity:
    """The difference of `collapsed` from `reference`. `temperature` is that of the reference's probabilities."""
    agreement, widest_flip = flips(reference.probabilities, collapsed.probabilities)
    return CollapsedParity(
        faces=len(reference.probabilities),
        agreement=agreement,
        widest_flip=widest_flip,
        probabilities=float(np.abs(collapsed.probabilities - reference.probabilities).max()),
        disagreement=float(stratum_disagreement(reference.stratum_logits, temperature).mean()),
    )
