"""Writes a model into a Triton model repository, as a new version.

    REPO/iern/config.pbtxt          of the version that is served
    REPO/iern/3/model.onnx          or model.plan: an engine
    REPO/iern/3/config.pbtxt        the same configuration, to go back to this version
    REPO/iern/3/expressions.txt     labels of `probabilities` and `logits`
    REPO/iern/3/stratum_expressions.txt     labels of `stratum_logits`

A version is complete before it gets its name, and config.pbtxt names the version that is served. So a running server
changes from one version to the next at once, with everything that describes it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from iern.export.parity.verify import read_exported
from iern.export.triton_repository.model_config import as_text, labels, model_config
from iern.runtime.artifact import Artifact
from iern.runtime.backends.server_address import SERVED_NAME
from iern.runtime.backends.trt.engine_file import EngineManifest, read_engine
from iern.runtime.errors import EngineError
from iern.runtime.session import MAX_BATCH
from iern.runtime.system.files import atomic_path, write_errors, write_text
from iern.runtime.system.remedies import run_script

CONFIG = "config.pbtxt"


@dataclass(frozen=True)
class ServedFile:
    """A model as Triton runs it."""

    content: bytes
    artifact: Artifact
    backend: str
    """Triton's name of what runs it."""
    file: str
    """The name that this backend expects."""
    max_batch: int
    profiles: Sequence[int] = ()
    """See `model_config`."""


def served_file(path: Path) -> ServedFile:
    """An exported file for Triton's onnxruntime, or an engine for its TensorRT.

    Raises ArtifactError if a file is damaged or not of iern, and EngineError if Triton cannot run the engine.
    """
    if path.suffix != ".engine":
        _, artifact = read_exported(path)
        return ServedFile(path.read_bytes(), artifact, "onnxruntime", "model.onnx", MAX_BATCH)
    plan, manifest, artifact, _ = read_engine(path)
    if problem := _engine_problem(manifest):
        again = run_script("export/to_trt.py")
        source = path.with_name(manifest.onnx)
        raise EngineError(f"{path}: {problem}; build one for it: {again} {source} --backend tensorrt --triton REPO")
    return ServedFile(plan, artifact, "tensorrt", "model.plan", manifest.batches[-1], manifest.batches)


def publish(model: ServedFile, repository: Path, print_line: Callable[[str], None] = print) -> Path:
    """Write the model as the next version of `iern` in the repository -> the folder of that version.

    Nothing is overwritten but config.pbtxt, and that only if a version's folder has a copy of it: one that was changed
    by hand is kept under another name. Raises OutputError if a file cannot be written.
    """
    folder = repository / SERVED_NAME
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        version, text = _write_version(model, folder)
        if kept := _keep_changed(folder, version):
            print_line(f"note: {folder / CONFIG} was changed by hand; it is kept as {kept.name}")
        write_text(folder / CONFIG, text)
    target = folder / str(version)
    print_line(f"wrote {target / model.file}: {len(model.content) / 1e6:.1f} MB, version {version} for Triton")
    return target


def _write_version(model: ServedFile, folder: Path) -> tuple[int, str]:
    """Write the folder of the next version -> its number, and the text of its configuration."""
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))  # Triton reads only folders with a number
    try:
        with atomic_path(temporary / model.file) as path:
            path.write_bytes(model.content)
        for name, lines in labels(model.artifact).items():
            write_text(temporary / name, lines)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp makes 0700, and the server may be another user
        while True:
            version = next_version(folder)
            config = model_config(
                model.artifact, version, model.backend, model.file, model.max_batch, list(model.profiles)
            )
            text = as_text(config)
            write_text(temporary / CONFIG, text)
            try:
                temporary.rename(folder / str(version))
            except OSError:
                if not (folder / str(version)).exists():
                    raise
                continue  # another export took this number
            return version, text
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def next_version(folder: Path) -> int:
    """The number after the largest one that any entry of the folder has."""
    return max((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), default=0) + 1


def _keep_changed(folder: Path, version: int) -> Path | None:
    """Keep a config.pbtxt of which no version has a copy, under another name -> that name. None if there is none."""
    current = folder / CONFIG
    if not current.is_file():
        return None
    content = current.read_bytes()
    if any(copy.read_bytes() == content for copy in folder.glob(f"[0-9]*/{CONFIG}")):
        return None
    kept = folder / f"{CONFIG}.before-{version}"
    current.rename(kept)
    return kept


def _engine_problem(manifest: EngineManifest) -> str:
    """Why Triton cannot run an engine. Empty if it can."""
    if manifest.backend != "tensorrt":
        return "is of TensorRT for RTX, which Triton does not run"
    if manifest.head != "native":
        return "ends before the averaging kernel of this project, which Triton does not have"
    if not manifest.any_batch:
        sizes = ", ".join(map(str, manifest.batches))
        return f"takes exactly {sizes} faces a call, and Triton joins requests to any number"
    return ""
