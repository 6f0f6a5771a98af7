"""Rebuilds an engine that does not fit this machine from the exported file beside it, if the user asks for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from iern.runtime.backends.trt.engine_file import build_arguments, read_manifest
from iern.runtime.errors import ArtifactError, EngineError
from iern.runtime.session import Session


def open_or_rebuild(engine: Path, open_engine: Callable[[], Session], rebuild: bool) -> Session:
    """Return `open_engine()`. If the engine does not fit and `rebuild` is set, build it again first.

    Raises what `open_engine` raises, with a hint on --rebuild if that would help, and EngineError if the build fails.
    """
    try:
        return open_engine()
    except (ArtifactError, EngineError) as error:
        command = _command(engine)
        if command is None:
            raise
        if not rebuild:
            raise type(error)(f"{error}; or add --rebuild to do that") from error
        reason = str(error)
    print(f"{reason}\nbuilding it again, which takes minutes", flush=True)
    # In a separate process, so that all memory of TensorRT's builder is freed.
    status = subprocess.run(command, check=False).returncode
    if status != 0:
        raise EngineError(
            f"{engine}: could not be built again (status {status}, see above); correct the error, or use the .onnx file"
        )
    return open_engine()


def _command(engine: Path) -> list[str] | None:
    """Return the command line of the build. None if the manifest or the exported file is missing."""
    try:
        manifest = read_manifest(engine)
    except ArtifactError:
        return None
    onnx = engine.with_name(manifest.onnx)
    if not onnx.is_file():
        return None
    return [sys.executable, "-m", "iern.export.to_trt", str(onnx), *build_arguments(engine, manifest)]
