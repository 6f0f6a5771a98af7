"""What is checked about the outputs before the model and the source are opened."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from iern.runtime.app.command_line import Options
from iern.runtime.backends.trt.engine_file import files_of_engine
from iern.runtime.bundled import DEMO_CLIP, YUNET
from iern.runtime.imaging.formats import is_image_file
from iern.runtime.outputs.mqtt import require_mqtt
from iern.runtime.system.append_only_file import STDOUT
from iern.runtime.system.file_conflicts import NamedPaths, refuse_conflicts

STDERR = Path("/dev/stderr")


def check_outputs(options: Options) -> None:
    """Raise IernError if an output would overwrite an input or another output, or lacks the packages that it needs."""
    refuse_conflicts(_inputs(options), _outputs(options))
    if options.mqtt:
        require_mqtt()
    if options.serve:
        from iern.runtime.serve.server import require_libraries  # late: a loop without a page needs no server

        require_libraries()


def _inputs(options: Options) -> NamedPaths:
    return {
        "--source": _source_files(options.source),
        "--allow-source": (path for spec in options.allow_source for path in _source_files(spec)),
        "--model": _model_files(options.model),
        "the bundled face detector": YUNET,
        "the bundled clip": DEMO_CLIP,
    }


def _outputs(options: Options) -> NamedPaths:
    printed = [STDERR] if options.writes_to_stdout else [STDOUT, STDERR]
    return {
        "--record": _recordings(options.record) if options.record else None,
        "--still": options.still,
        "--jsonl": options.jsonl,
        "--csv": options.csv,
        "--summary": options.summary,
        "what the loop prints": [path for path in printed if path.is_file()],
    }


def _source_files(spec: str) -> Iterable[Path]:
    """The files of a source: the images of a folder, or the file, device or standard input itself. None of a stream."""
    if "://" in spec or spec.isdecimal():
        return ()
    path = Path("/dev/stdin" if spec == "-" else spec)
    if not path.is_dir():
        return (path,)
    return (file for file in path.iterdir() if is_image_file(file))


def _model_files(model: Path) -> Sequence[Path]:
    """The model's file, and the files that belong to an engine."""
    if model.suffix.lower() != ".engine":
        return (model,)
    return *files_of_engine(model), model.with_suffix(".onnx")


def _recordings(path: Path) -> Sequence[Path]:
    """The recording, and the existing files of the names in which it may continue, as NAME-001.EXT."""
    pattern = f"{glob.escape(path.stem)}-[0-9][0-9][0-9]*{glob.escape(path.suffix)}"
    return [path, *path.parent.glob(pattern)]
