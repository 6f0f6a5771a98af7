"""An engine that does not fit this machine is built again from the exported file beside it, where the user says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from iern.runtime.backends.trt.engine_file import build_arguments, read_manifest
from iern.runtime.errors import ArtifactError, EngineError
from iern.runtime.session import Session


def open_or_rebuild(engine: Path, opened: Callable[[], Session], rebuild: bool) -> Session:
    """What `opened` returns; where the engine does not fit, with `rebuild`, once it has been built again.

    Raises what `opened` raises, with a word on --rebuild where that would help, and EngineError where the build fails.
    """
    try:
        return opened()
    except (ArtifactError, EngineError) as error:
        command = _command(engine)
        if command is None:
            raise
        if not rebuild:
            raise type(error)(f"{error}; or let --rebuild do that") from error
        reason = str(error)
    print(f"{reason}\nbuilding it again, which takes minutes", flush=True)
    # In a process of its own, which gives back all that TensorRT's builder took.
    status = subprocess.run(command, check=False).returncode
    if status != 0:
        raise EngineError(
            f"{engine}: could not be built again (status {status}, see above); mend that, or run the .onnx"
        )
    return opened()


def _command(engine: Path) -> list[str] | None:
    """The build's command line; None where it is not known, or the exported file is not there."""
    try:
        manifest = read_manifest(engine)
    except ArtifactError:
        return None
    onnx = engine.with_name(manifest.onnx)
    if not onnx.is_file():
        return None
    return [sys.executable, "-m", "iern.export.to_trt", str(onnx), *build_arguments(engine, manifest)]
