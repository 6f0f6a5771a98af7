"""The limits of half precision: close to a reference on a thousand faces, and far below the end of float16.

Float16 rounds at about 1 in 2,000 and ends at 65504. It must keep the prediction and the differences between strata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from iern.export.parity.model_outputs import ModelOutputs, deviations, flips, limits_table, three_digits

AGREEMENT_LIMIT = 0.995
"""Smallest share of faces with the reference's first expression, near-ties aside."""
LOGITS_LIMIT = 1e-2
"""Largest difference of a logit, and largest lead of a first expression that changes, over the range of the logits."""
NEAR_TIE = 1e-3
"""Lead of a first expression, over the range of the logits, below which it may change: which of two equally likely
expressions comes first depends on the order of the sums, which differs between GPUs."""
SPREAD_LIMIT = 0.02
"""Largest difference of the spread between strata, as a share of the reference's."""
LARGEST_HALF = 65504.0
HEAD_ROOM_LIMIT = 4.0
"""LARGEST_HALF must be at least this many times the largest value of any layer: other faces may have larger ones."""


@dataclass(frozen=True)
class HalfParity:
    """The gate's result on `faces` images."""

    faces: int
    agreement: float
    """Share of faces with the reference's first expression, or whose first one had a lead below NEAR_TIE."""
    logits: float
    """Largest difference of a logit, over the range of the reference's logits. NaN or infinity if an output is."""
    widest_flip: float
    """Largest lead, in the reference, of a first expression that is no longer the first. Over the same range."""
    spread: float
    """Spread between strata over the reference's, each a root mean square over faces. 1 if the reference's is 0."""
    peaks: Mapping[str, float] = field(default_factory=dict)
    """Layer of the trunk -> its largest absolute output in float64. Empty if unknown."""

    @property
    def head_room(self) -> float:
        """The end of float16 over the largest value of any layer."""
        return LARGEST_HALF / max(self.peaks.values()) if self.peaks else float("inf")

    @property
    def failures(self) -> list[str]:
        """One line for each limit that is not kept. Empty if there are none. NaN keeps no limit."""
        checks = [
            (
                self.agreement >= AGREEMENT_LIMIT,
                f"{self.agreement:.2%} of the faces keep their first expression, limit {AGREEMENT_LIMIT:.1%}",
            ),
            (self.logits <= LOGITS_LIMIT, f"logits differ by {self.logits:.1e} of their range, limit {LOGITS_LIMIT}"),
            (
                self.widest_flip <= LOGITS_LIMIT,
                f"a first expression with a lead of {self.widest_flip:.1e} of the range changed, limit {LOGITS_LIMIT}",
            ),
            (
                abs(self.spread - 1) <= SPREAD_LIMIT,
                f"the spread between strata is {self.spread:.3f} times the reference's, limit {SPREAD_LIMIT} from 1",
            ),
            (
                self.head_room >= HEAD_ROOM_LIMIT,
                f"65504 is {self.head_room:.1f} times the largest value of a layer, limit {HEAD_ROOM_LIMIT:g}",
            ),
        ]
        return [failure for kept, failure in checks if not kept]

    def table(self) -> str:
        """The numbers as lines for a terminal, then the layers with the least head-room."""
        rows = [
            ("same first, or near-tie", f"{self.agreement:.2%}", f"at least {AGREEMENT_LIMIT:.1%}"),
            ("logits / range", f"{self.logits:.1e}", f"at most {LOGITS_LIMIT:.0e}"),
            ("widest flip / range", f"{self.widest_flip:.1e}", f"at most {LOGITS_LIMIT:.0e}"),
            ("spread between strata", f"{self.spread:.4f}", f"within {SPREAD_LIMIT:.0%} of 1"),
        ]
        if self.peaks:
            rows.append(("head-room below 65504", f"{self.head_room:.0f} x", f"at least {HEAD_ROOM_LIMIT:g} x"))
        largest = sorted(self.peaks.items(), key=lambda item: -item[1])[:3]
        rows += [(f"  {name}", f"{peak:.1f}", f"{LARGEST_HALF / peak:.0f} x below") for name, peak in largest]
        return limits_table(rows)

    def to_dict(self) -> dict[str, Any]:
        """The result in plain types for the artifact, with only the largest value of the layers."""
        values = {name: value for name, value in asdict(self).items() if name != "peaks"}
        return three_digits({**values, "largest_value": max(self.peaks.values())} if self.peaks else values)


@np.errstate(invalid="ignore")  # NaN fails the gate
def compare_half(reference: ModelOutputs, half: ModelOutputs, peaks: Mapping[str, float] | None = None) -> HalfParity:
    """The difference of `half` from `reference`. `peaks` as in HalfParity."""
    logit_range = float(np.ptp(reference.logits))
    agreement, widest_flip = flips(reference.logits, half.logits, NEAR_TIE * logit_range)
    spread = _spread(reference)  # with one stratum, or strata with equal centres, this is only rounding
    difference = max(
        float(np.abs(half.logits - reference.logits).max()),
        float(np.abs(half.stratum_logits - reference.stratum_logits).max()),
    )
    if not np.isfinite(half.probabilities).all():
        difference = float("nan")
    return HalfParity(
        faces=len(reference.logits),
        agreement=agreement,
        logits=difference / logit_range,
        widest_flip=widest_flip / logit_range,
        spread=_spread(half) / spread if spread > 1e-12 * logit_range else 1.0,
        peaks=peaks or {},
    )


def _spread(outputs: ModelOutputs) -> float:
    """The root mean square, over faces and expressions, of the strata's deviation from their mean."""
    return float(np.sqrt(np.mean(deviations(outputs.stratum_logits) ** 2)))
