"""The configuration of a model for Triton: what config.pbtxt says, as plain values and as its text.

The fields are those of ModelConfig in Triton's model_config.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, Artifact
from iern.runtime.backends.server_address import SERVED_NAME
from iern.runtime.backends.triton import VERSION_PARAMETER

EXPRESSION_LABELS, STRATUM_LABELS = "expressions.txt", "stratum_expressions.txt"
MAPS = ("parameters", "inputs")
"""Fields whose keys are names that we choose. The text lists them as entries with a key and a value."""


class Word(str):
    """A value of an enumeration, which the text has without quotes."""

    __slots__ = ()


def model_config(
    artifact: Artifact, version: int, backend: str, file: str, max_batch: int, profiles: Sequence[int] = ()
) -> dict[str, Any]:
    """The configuration of version `version`, whose file in its folder is `file`.

    `backend` is Triton's: `onnxruntime` or `tensorrt`. `profiles` are the largest numbers of faces of an engine's
    optimization profiles, in their order.
    """
    config: dict[str, Any] = {
        "name": SERVED_NAME,
        "backend": backend,
        "default_model_filename": file,
        # Only this version is served: the parameters below describe it and no other one.
        "version_policy": {"specific": {"versions": [version]}},
        "max_batch_size": max_batch,
        "input": [{"name": INPUT_NAME, "data_type": Word("TYPE_UINT8"), "dims": list(artifact.input.shape)}],
        "output": _outputs(artifact, version),
        # Requests that wait are joined. None waits longer than for the batch that runs.
        "dynamic_batching": {"preferred_batch_size": list(profiles)} if profiles else {},
    }
    if profiles:
        names = [str(index) for index in range(len(profiles))]
        config["instance_group"] = [{"kind": Word("KIND_GPU"), "count": 1, "profile": names}]
    config["model_warmup"] = [_warmup(artifact, size) for size in (1, max_batch)]
    described = {**artifact.to_metadata(), VERSION_PARAMETER: str(version)}
    config["parameters"] = {key: {"string_value": value} for key, value in described.items()}
    return config


def labels(artifact: Artifact) -> dict[str, str]:
    """Name of a labels file -> its text: a label a line, in the order of the output's values."""
    by_stratum = [f"{stratum}: {name}" for stratum in artifact.strata for name in artifact.expressions]
    named = {EXPRESSION_LABELS: artifact.expressions, STRATUM_LABELS: by_stratum}
    return {file: "".join(f"{label}\n" for label in lines) for file, lines in named.items()}


def as_text(config: Mapping[str, Any]) -> str:
    """The values in Protocol Buffers' text format."""
    return "".join(f"{line}\n" for line in _lines(config))


def _outputs(artifact: Artifact, version: int) -> list[dict[str, Any]]:
    expressions, strata = len(artifact.expressions), len(artifact.strata)
    shapes = ([expressions], [expressions], [strata, expressions])
    files = (EXPRESSION_LABELS, EXPRESSION_LABELS, STRATUM_LABELS)
    return [
        {"name": name, "data_type": Word("TYPE_FP32"), "dims": dims, "label_filename": f"{version}/{file}"}
        for name, dims, file in zip(OUTPUT_NAMES, shapes, files, strict=True)
    ]


def _warmup(artifact: Artifact, faces: int) -> dict[str, Any]:
    """A first call before the model counts as ready. On a GPU it takes long."""
    face = {"data_type": Word("TYPE_UINT8"), "dims": list(artifact.input.shape), "zero_data": True}
    return {"name": f"{faces} faces", "batch_size": faces, "inputs": {INPUT_NAME: face}}


def _lines(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in values.items():
        if key in MAPS:
            entries = [{"key": name, "value": entry} for name, entry in value.items()]
        else:
            entries = value if isinstance(value, list) else [value]
        for entry in entries:
            if isinstance(entry, Mapping):
                yield f"{indent}{key} {{"
                yield from _lines(entry, f"{indent}  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{key}: {_scalar(entry)}"


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not isinstance(value, Word):
        return f'"{"".join(map(_escaped, value))}"'
    return str(value)


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return f"\\{ord(character):03o}" if ord(character) < 32 else character
