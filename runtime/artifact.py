"""The contract between export and runtime: the metadata of a model file.

The metadata is inside the ONNX file (`metadata_props`: one entry per field, with the key `iern.<field>` and a JSON
value). The ONNX file alone is therefore enough to run the model. A file with wrong or missing metadata is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iern.runtime.errors import ArtifactError
from iern.runtime.imaging.preprocess import InputSpec

FORMAT_VERSION = 1
PREFIX = "iern."
INPUT_NAME = "image"
OUTPUT_NAMES = ("probabilities", "logits", "stratum_logits")
LATER_FIELDS = frozenset({"threshold"})
"""Fields that the first files of this format do not have. The default serves for them.

Required fields are written after each of these, so a truncated file always lacks a required one."""
TAIL_INPUTS = ("u", "h")
"""Names of the feature maps (batch * N, d, h, w) around the last ReLU. A fused tail kernel can start there."""


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
    data: str = ""
    """The training data, in words."""
    licence: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_sha256: str = ""
    parity: Mapping[str, Any] = field(default_factory=dict)
    """The largest differences that the exporter's parity check found, see `iern.export.parity.exact`."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package name -> version, of the packages that made the file."""

    def to_metadata(self) -> dict[str, str]:
        """Return the entries for the file's metadata. `from_metadata` is the inverse."""
        fields = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return {PREFIX + key: json.dumps(value, ensure_ascii=False, sort_keys=True) for key, value in fields.items()}

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
            (spec.colour != "bgr" or spec.resize != "area-cubic", f"input {spec.colour}, {spec.resize}"),
            (spec.alignment not in ("eyes", "none"), f"alignment {spec.alignment}"),
            (not (isinstance(spec.size, int) and 8 <= spec.size <= 4096), f"input size {spec.size}"),
            (not spec.margin > 0, f"margin {spec.margin}"),
            (not self.temperature > 0, f"temperature {self.temperature}"),
            (not 0 <= self.threshold <= 1, f"threshold {self.threshold}"),
        ]
        for wrong, found in problems:
            if wrong:
                raise ArtifactError(
                    f"{name}: its metadata has {found}, which this runtime does not support; update iern"
                )
