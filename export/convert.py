"""Checkpoint -> verified ONNX files. Each is deconfounded, exported, compared with the network, then written."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from iern.export.graph.collapse import collapsed
from iern.export.graph.deconfound import deconfound
from iern.export.graph.onnx_graph import export_onnx, with_metadata
from iern.export.parity.batches import Track
from iern.export.parity.collapsed import check_collapsed_parity
from iern.export.parity.exact import check_exact_parity
from iern.export.parity.gate_faces import GateFaces
from iern.export.parity.half_precision_gate import check_half_parity
from iern.export.parity.verify import summary
from iern.runtime.artifact import Artifact, Prior
from iern.runtime.checksum import with_checksum
from iern.runtime.errors import CheckpointError, ParityError
from iern.runtime.imaging.preprocess import InputSpec
from iern.runtime.intervention import logit_shift
from iern.runtime.system.files import atomic_path, sha256
from iern.train.network.checkpoint import Checkpoint, load_checkpoint, versions
from iern.train.network.iern import IERN, Baseline, stratum_names

PACKAGES = ("iern", "torch", "timm", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu")

PrintLine = Callable[[str], None]


class GateResult(Protocol):
    """The result of a parity gate."""

    @property
    def faces(self) -> int:
        """The number of images."""

    @property
    def failures(self) -> Sequence[str]:
        """One line for each limit that is not kept."""

    def table(self) -> str:
        """The numbers as lines for a terminal."""

    def to_dict(self) -> dict[str, Any]:
        """The result in plain types for the artifact."""


Gate = Callable[[Baseline, bytes, NDArray[np.uint8], float, Track], GateResult]
"""Network, exported file, faces, temperature, progress -> result."""


@dataclass(frozen=True)
class Check:
    """A parity gate, its faces, and what is printed of it."""

    faces: Callable[[GateFaces, InputSpec], NDArray[np.uint8]]
    """Reads the faces for the gate."""
    gate: Gate
    title: str
    """Begins the line above the gate's table."""
    refusal: str
    """Begins the error if the gate fails; {target} is the file that is not written."""


@dataclass(frozen=True)
class Precision:
    """One kind of exported file: its number type, and the gate that it must pass."""

    suffix: str
    """Of the file."""
    trunk: torch.dtype
    """The number type of everything before the tail."""
    check: Check

    def path(self, target: Path) -> Path:
        """The path of this kind of file, given that of the float32 file: office.onnx -> office.fp16.onnx."""
        return target.with_suffix(self.suffix)


def _exact_gate(
    model: Baseline, graph: bytes, faces: NDArray[np.uint8], temperature: float, track: Track
) -> GateResult:
    """Too short for a progress bar."""
    return check_exact_parity(model, graph, faces, temperature)


FP32 = Precision(
    suffix=".onnx",
    trunk=torch.float32,
    check=Check(
        faces=GateFaces.few,
        gate=_exact_gate,
        title="parity with the sequential network in float64",
        refusal="the outputs of the exported graph differ from the network's, and nothing was written",
    ),
)
FP16 = Precision(
    suffix=".fp16.onnx",
    trunk=torch.float16,
    check=Check(
        faces=GateFaces.many,
        gate=check_half_parity,
        title="half precision against float64",
        refusal="in half precision the outputs differ from the network's, and {target} was not written; "
        "use --precision fp32",
    ),
)
COLLAPSED = Check(
    faces=GateFaces.many,
    gate=check_collapsed_parity,
    title="collapsed strata against the sequential network in float64",
    refusal="with the strata collapsed the outputs differ too much from the network's, and {target} was not written; "
    "leave out --strata collapsed",
)
"""Compares the float32 file with the network before its strata were collapsed. All else compares with the network
after that."""


@dataclass(frozen=True)
class ExportOptions:
    """The files to export from a checkpoint, and their description."""

    half: bool = False
    """Write the file in half precision too."""
    collapse: bool = False
    """Collapse the strata into one, see `iern.export.graph.collapse`."""
    data: str | None = None
    """The training data in words. None: as in the checkpoint."""
    licence: str | None = None
    """The licence of the weights. None: as in the checkpoint."""
    prior: Prior | None = None
    """How frequent the expressions are where the files are used: see `Artifact.with_prior`. None: as the checkpoint
    assumes."""


def convert(
    source: Path,
    target: Path,
    faces: GateFaces,
    options: ExportOptions = ExportOptions(),
    print_line: PrintLine = print,
    track: Track = iter,
) -> list[Path]:
    """Export the checkpoint `source` to `target`, and with `options.half` in half precision too -> the files written.

    `faces` are for the parity gates, and `track` may wrap the batches of the longer gates to show progress. Raises
    CheckpointError for a bad checkpoint or one without strata to collapse, PriorError for a prior that it cannot have,
    SourceError or DataError for bad faces, and ParityError if the outputs of a file differ from the network's. An older
    version of that file then stays as it was.
    """
    checkpoint = load_checkpoint(source)
    model = _model(checkpoint, source)
    artifact = describe(checkpoint, source, options)
    if options.prior is not None:
        own, artifact = artifact, artifact.with_prior(options.prior, str(source))
        with torch.no_grad():  # the bias is a part of the logits of every stratum
            model.classifier.linear.bias.add_(torch.from_numpy(logit_shift(own, artifact.prior)))
    as_trained = model
    if options.collapse:
        model, artifact = _with_one_stratum(model, artifact, source)
    print_line(f"{source}: {summary(artifact)}")

    def passed(check: Check, reference: Baseline, graph: bytes, path: Path) -> dict[str, Any]:
        images = check.faces(faces, artifact.input)
        parity = check.gate(reference, graph, images, artifact.temperature, track)
        print_line(f"{check.title}, on {parity.faces} images:\n{parity.table()}")
        if parity.failures:
            raise ParityError(f"{source}: {check.refusal.format(target=path)}; {'; '.join(parity.failures)}")
        return parity.to_dict()

    written: list[Path] = []
    of_collapse: dict[str, Any] = {}
    for precision in (FP32, FP16) if options.half else (FP32,):
        path = precision.path(target)
        graph = export_onnx(deconfound(model, artifact.temperature, trunk=precision.trunk), artifact)
        parity = passed(precision.check, model, graph, path)
        if options.collapse and not written:  # the float32 file shows it for the others
            of_collapse = {"collapse": passed(COLLAPSED, as_trained, graph, path)}
        write_artifact(path, graph, dataclasses.replace(artifact, parity=parity | of_collapse), print_line)
        written.append(path)
    return written


def write_artifact(target: Path, graph: bytes, artifact: Artifact, print_line: PrintLine) -> None:
    """Write a graph with this description, whole or not at all, and print its size and checksum."""
    described = with_metadata(onnx.load_from_string(graph), artifact)
    content = with_checksum(described.SerializeToString(deterministic=True))
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
    print_line(f"wrote {target}: {len(content) / 1e6:.1f} MB, sha256 {hashlib.sha256(content).hexdigest()}")


def describe(checkpoint: Checkpoint, source: Path, options: ExportOptions = ExportOptions()) -> Artifact:
    """The description of the file to be written. `source` is the checkpoint's file.

    Raises ArtifactError if the runtime would not support it.
    """
    config, provenance = checkpoint.config, checkpoint.provenance
    artifact = Artifact(
        expressions=config.expressions,
        strata=stratum_names(config),
        input=config.input,
        method=config.method,
        preset=config.preset,
        answer=config.answer,
        temperature=checkpoint.temperature,
        threshold=checkpoint.threshold,
        prior=checkpoint.prior,
        data=_without_folders(str(provenance.get("data", ""))) if options.data is None else options.data,
        licence=str(provenance.get("licence", "")) if options.licence is None else options.licence,
        metrics=checkpoint.metrics,
        checkpoint_sha256=sha256(source),
        versions=versions(*PACKAGES),
    )
    return Artifact.from_metadata(artifact.to_metadata(), str(source))


def _model(checkpoint: Checkpoint, source: Path) -> Baseline:
    try:
        return checkpoint.model()
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}; train it again") from error
    except (RuntimeError, ValueError) as error:  # timm raises these for a backbone that it does not know
        raise CheckpointError(f"{source}: its network cannot be built here ({error}); update timm") from error


def _with_one_stratum(model: Baseline, artifact: Artifact, source: Path) -> tuple[IERN, Artifact]:
    """The network with its strata collapsed, and the description of its file. Raises CheckpointError without strata."""
    if not isinstance(model, IERN) or len(artifact.strata) < 2:
        raise CheckpointError(
            f"{source}: its method is {artifact.method}, with one stratum, so there is nothing to collapse; leave out "
            "--strata collapsed"
        )
    model = collapsed(model)
    return model, dataclasses.replace(artifact, strata=model.config.strata, collapsed_from=len(artifact.strata))


def _without_folders(data: str) -> str:
    """Words stay. Of an absolute path only the last part stays, because the rest describes one machine's folders."""
    return Path(data).name if Path(data).is_absolute() else data
