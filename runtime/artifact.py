"""The contract between export and runtime: the metadata of a model file.

The metadata is inside the ONNX file (`metadata_props`: one entry per field, with the key `iern.<field>` and a JSON
value). The ONNX file alone is therefore enough to run the model. A file with wrong or missing metadata is refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iern.runtime.errors import ArtifactError, PriorError
from iern.runtime.imaging.preprocess import InputSpec

FORMAT_VERSION = 1
PREFIX = "iern."
INPUT_NAME = "image"
OUTPUT_NAMES = ("probabilities", "logits", "stratum_logits")
LATER_FIELDS = frozenset({"threshold", "prior", "collapsed_from", "float_sha256"})
"""Fields that the first files of this format do not have. The default serves for them.

Required fields are written after each of these, so a truncated file always lacks a required one."""
TAIL_INPUTS = ("u", "h")
"""Names of the feature maps (batch * N, d, h, w) around the last ReLU. A fused tail kernel can start there."""

UNIFORM = "uniform"
"""The prior under which all expressions are equally common."""
SMALLEST_RATE = 1e-6
"""Of an expression. At a rate of 0 its logits would be infinite."""
SUM_TOLERANCE = 0.01
"""How far typed rates of all expressions may be from a sum of 1. They are then scaled to it."""

Prior = str | Mapping[str, float]
"""`uniform`, or expression -> its rate. The expressions that are left out share the rest."""


@dataclass(frozen=True)
class Artifact:
    """The description of an exported graph.

    The graph maps `image` (batch, size, size, 3) uint8 BGR to `probabilities` (batch, E), `logits` (batch, E) and
    `stratum_logits` (batch, N, E). Logits are before the temperature, probabilities after it.
    """

    expressions: tuple[str, ...]
    """E names, in the order of the outputs."""
    strata: tuple[str, ...]
    """N confounder strata, in the order of `stratum_logits`."""
    input: InputSpec
    method: str = "iern"
    """`iern`, or one of its ablations with one stratum: `disentanglement` or `baseline`."""
    preset: str = ""
    answer: str = "logits"
    """What is averaged over the strata: `logits` (Eq. 9) or `probabilities` (Eq. 2)."""
    temperature: float = 1.0
    threshold: float = 0.0
    """A face whose largest probability is smaller is called uncertain. 0: no face is."""
    prior: tuple[float, ...] = ()
    """How frequent each of the E expressions is where the probabilities hold. Empty: unknown."""
    collapsed_from: int = 0
    """The number of strata that were collapsed into the one of this file. 0: the strata are those of the network."""
    data: str = ""
    """The training data, in words."""
    licence: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    float_sha256: str = ""
    """Of the float32 file that this one computes in 8 bits. Empty: this one is not in 8 bits."""
    checkpoint_sha256: str = ""
    parity: Mapping[str, Any] = field(default_factory=dict)
    """The largest differences that the exporter's parity check found, see `iern.export.parity.exact`."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package name -> version, of the packages that made the file."""

    @property
    def has_strata(self) -> bool:
        """Whether there are at least two strata, which can disagree."""
        return len(self.strata) > 1

    @property
    def in_8_bits(self) -> bool:
        """Whether the trunk computes in 8 bits."""
        return bool(self.float_sha256)

    def to_metadata(self) -> dict[str, str]:
        """Return the entries for the file's metadata. `from_metadata` is the inverse."""
        fields = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return {PREFIX + key: json.dumps(value, ensure_ascii=False, sort_keys=True) for key, value in fields.items()}

    def with_prior(self, prior: Prior, name: str) -> Artifact:
        """Return the description of the model called `name` where the expressions are as frequent as `prior` says.

        Expressions that `prior` leaves out share the rest in proportion to the model's own rates. The threshold stays.
        The logits must change too: see `iern.runtime.intervention.logit_shift`.
        Raises PriorError if the model's own rates are unknown, or `prior` is no rates of its expressions.
        """
        if not self.prior:
            raise PriorError(
                f"{name}: does not record how frequent the expressions are where its probabilities hold, so no prior "
                "can replace that; calibrate the checkpoint with train/calibrate.py and export it again, or leave out "
                "the prior"
            )
        if prior == UNIFORM:
            prior = dict.fromkeys(self.expressions, 1 / len(self.expressions))
        own = dict(zip(self.expressions, self.prior, strict=True))
        if problem := _problem(prior, own):
            raise PriorError(f"{name}: the prior {problem}")
        assert isinstance(prior, Mapping), "anything else is a problem"
        others = sum(own[expression] for expression in own.keys() - prior.keys())
        rest = 1 - sum(prior.values())
        rates = [prior[each] if each in prior else rest * own[each] / others for each in own]
        return dataclasses.replace(self, prior=tuple(rate / sum(rates) for rate in rates))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], name: str) -> Artifact:
        """Read the metadata of the file called `name`.

        Raises ArtifactError if iern did not write it, or it is damaged, incomplete or of another format version.
        """
        if PREFIX + "format_version" not in metadata:
            raise ArtifactError(
                f"{name}: has no {PREFIX}* metadata, so its labels and preprocessing are unknown; "
                "expected a file written by export/to_trt.py"
            )
        values = {key[len(PREFIX) :]: text for key, text in metadata.items() if key.startswith(PREFIX)}
        try:
            parsed = {key: json.loads(text) for key, text in values.items()}
        except json.JSONDecodeError as error:
            raise ArtifactError(f"{name}: damaged metadata ({error}); export the checkpoint again") from error
        found = parsed.pop("format_version")
        if found != FORMAT_VERSION:
            raise ArtifactError(
                f"{name}: has format {found}, this runtime reads {FORMAT_VERSION}; export the checkpoint again"
            )
        known = {f.name for f in dataclasses.fields(cls)}
        if missing := known - parsed.keys() - LATER_FIELDS:
            # The exporter writes all fields, last in the file: a default here would accept a truncated file.
            names = ", ".join(sorted(missing))
            raise ArtifactError(f"{name}: its metadata lacks {names}; copy the file, or export the checkpoint, again")
        try:
            artifact = cls(
                expressions=tuple(parsed.pop("expressions")),
                strata=tuple(parsed.pop("strata")),
                input=InputSpec(**parsed.pop("input")),
                prior=tuple(parsed.pop("prior", ())),
                **{key: value for key, value in parsed.items() if key in known},
            )
            artifact._check(name)
        except TypeError as error:
            raise ArtifactError(f"{name}: damaged metadata ({error}); export the checkpoint again") from error
        return artifact

    def _check(self, name: str) -> None:
        spec = self.input
        problems = [
            (len(self.expressions) < 2, f"{len(self.expressions)} expressions"),
            (not self.strata, "no strata"),
            (
                self.collapsed_from != 0 and (self.collapsed_from < 2 or self.has_strata),
                f"{len(self.strata)} strata collapsed from {self.collapsed_from}",
            ),
            (spec.colour != "bgr" or spec.resize != "area-cubic", f"input {spec.colour}, {spec.resize}"),
            (spec.alignment not in ("landmarks", "eyes", "none"), f"alignment {spec.alignment}"),
            (not (isinstance(spec.size, int) and 8 <= spec.size <= 4096), f"input size {spec.size}"),
            (not spec.margin > 0, f"margin {spec.margin}"),
            (not self.temperature > 0, f"temperature {self.temperature}"),
            (not 0 <= self.threshold <= 1, f"threshold {self.threshold}"),
            (not _are_rates(self.prior, len(self.expressions)), f"prior {list(self.prior)}"),
        ]
        for wrong, found in problems:
            if wrong:
                raise ArtifactError(
                    f"{name}: its metadata has {found}, which this runtime does not support; update iern"
                )


def _are_rates(prior: tuple[float, ...], count: int) -> bool:
    """Return whether `prior` is one positive rate for each of `count` expressions, or is unknown."""
    return not prior or (len(prior) == count and min(prior) > 0 and math.isclose(sum(prior), 1, abs_tol=1e-6))


def _problem(prior: Prior, own: Mapping[str, float]) -> str:
    """Return what is wrong with a requested prior, and what was expected. Empty if nothing is."""
    if not isinstance(prior, Mapping):
        return f"is {prior!r}; expected {UNIFORM!r}, or a rate for each of some expressions"
    if unknown := prior.keys() - own.keys():
        return f"names {', '.join(sorted(unknown))}; the model's expressions are {', '.join(own)}"
    for expression, rate in prior.items():
        if not SMALLEST_RATE <= rate < 1:
            return f"has the rate {rate:g} for {expression}; expected at least {SMALLEST_RATE:g} and less than 1"
    total = sum(prior.values())
    if prior.keys() == own.keys():
        wrong, expected = abs(total - 1) > SUM_TOLERANCE, "1, because it names all expressions"
    else:
        wrong, expected = 1 - total < SMALLEST_RATE, "less than 1, because the other expressions share the rest"
    return f"sums to {total:g}; expected {expected}" if wrong else ""
