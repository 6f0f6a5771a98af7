"""The limits of half precision: near to its twin on a thousand faces, and far from where float16 ends.

Float16 rounds at about 1 in 2,000 and ends at 65504. What it must keep is the answer, and what the strata change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from iern.export.parity.answers import ModelOutputs, deviations, three_digits

AGREEMENT_LIMIT = 0.995
"""Smallest share of faces with the twin's first expression."""
LOGITS_LIMIT = 1e-2
"""Largest logit difference, over the range of the logits; also the largest margin of an expression that changed."""
SPREAD_LIMIT = 0.02
"""By how much the spread between strata may differ, as a share of the twin's."""
LARGEST_HALF = 65504.0
HEAD_ROOM_LIMIT = 4.0
"""How many times the largest value of any layer must fit below LARGEST_HALF: other faces have larger ones."""


@dataclass(frozen=True)
class HalfParity:
    """What the gate found on `faces` images."""

    faces: int
    agreement: float
    """Share of faces whose first expression is the float64 twin's."""
    logits: float
    """Largest logit difference, over the range of the twin's logits; NaN or infinity where an answer is."""
    widest_flip: float
    """Largest lead that the twin gave a first expression which is no longer the first, over the same range."""
    spread: float
    """Spread between strata over the twin's, each the root mean square over faces; 1 where the twin's strata agree."""
    peaks: Mapping[str, float] = field(default_factory=dict)
    """Largest absolute value that each layer of the trunk writes, in float64; empty where they are not known."""

    @property
    def head_room(self) -> float:
        """How many times the largest value of any layer fits below the end of float16."""
        return LARGEST_HALF / max(self.peaks.values()) if self.peaks else float("inf")

    @property
    def failures(self) -> list[str]:
        """One line for each limit that is not kept; empty where all are. NaN keeps none."""
        checks = [
            (
                self.agreement >= AGREEMENT_LIMIT,
                f"{self.agreement:.2%} of the faces keep their first expression, limit {AGREEMENT_LIMIT:.1%}",
            ),
            (self.logits <= LOGITS_LIMIT, f"logits differ by {self.logits:.1e} of their range, limit {LOGITS_LIMIT}"),
            (
                self.widest_flip <= LOGITS_LIMIT,
                f"an expression that led by {self.widest_flip:.1e} of the range lost, limit {LOGITS_LIMIT}",
            ),
            (
                abs(self.spread - 1) <= SPREAD_LIMIT,
                f"the strata spread {self.spread:.3f} times as wide, limit {SPREAD_LIMIT} from 1",
            ),
            (
                self.head_room >= HEAD_ROOM_LIMIT,
                f"the largest value fits {self.head_room:.1f} times below 65504, limit {HEAD_ROOM_LIMIT:g}",
            ),
        ]
        return [found for kept, found in checks if not kept]

    def table(self) -> str:
        """The numbers for a terminal: one line each, then the layers with the least head-room."""
        rows = [
            ("same first expression", f"{self.agreement:.2%}", f"at least {AGREEMENT_LIMIT:.1%}"),
            ("logits / range", f"{self.logits:.1e}", f"at most {LOGITS_LIMIT:.0e}"),
            ("widest flip / range", f"{self.widest_flip:.1e}", f"at most {LOGITS_LIMIT:.0e}"),
            ("spread between strata", f"{self.spread:.4f}", f"within {SPREAD_LIMIT:.0%} of 1"),
        ]
        if self.peaks:
            rows.append(("head-room below 65504", f"{self.head_room:.0f} x", f"at least {HEAD_ROOM_LIMIT:g} x"))
        largest = sorted(self.peaks.items(), key=lambda item: -item[1])[:3]
        rows += [(f"  {name}", f"{peak:.1f}", f"{LARGEST_HALF / peak:.0f} x below") for name, peak in largest]
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{name:<{width}}  {value:>10}  {limit}" for name, value, limit in rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain types for the artifact; of the layers the largest value only."""
        values = {name: value for name, value in asdict(self).items() if name != "peaks"}
        return three_digits({**values, "largest_value": max(self.peaks.values())} if self.peaks else values)


@np.errstate(invalid="ignore")  # NaN is told by the verdict
def compare_half(twin: ModelOutputs, half: ModelOutputs, peaks: Mapping[str, float] | None = None) -> HalfParity:
    """How far `half` is from `twin`; `peaks` as in HalfParity."""
    logit_range = float(np.ptp(twin.logits))
    first, other = twin.logits.argmax(axis=1), half.logits.argmax(axis=1)
    rows = np.arange(len(first))
    spread = _spread(twin)  # of one stratum, or of strata with equal centres: nothing but rounding
    lead = twin.logits[rows, first] - twin.logits[rows, other]
    difference = max(
        float(np.abs(half.logits - twin.logits).max()), float(np.abs(half.stratum_logits - twin.stratum_logits).max())
    )
    if not np.isfinite(half.probabilities).all():
        difference = float("nan")
    return HalfParity(
        faces=len(first),
        agreement=float(np.mean(first == other)),
        logits=difference / logit_range,
        widest_flip=float(lead.max()) / logit_range,
        spread=_spread(half) / spread if spread > 1e-12 * logit_range else 1.0,
        peaks=peaks or {},
    )


def _spread(answers: ModelOutputs) -> float:
    """Root mean square, over faces and expressions, of the strata's deviation from their mean."""
    return float(np.sqrt(np.mean(deviations(answers.stratum_logits) ** 2)))
