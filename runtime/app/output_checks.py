"""What is checked about the outputs before the model and the source are opened."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from iern.runtime.app.command_line import Options
from iern.runtime.backends.trt.engine_file import files_of_engine
from iern.runtime.bundled import DEMO_CLIP, YUNET
from iern.runtime.errors import OutputError
from iern.runtime.imaging.formats import is_image_file
from iern.runtime.outputs.mqtt import require_mqtt
from iern.runtime.outputs.still import annotated_path
from iern.runtime.sources.folders import files_below
from iern.runtime.system.append_only_file import STDOUT
from iern.runtime.system.file_conflicts import NamedPaths, refuse_conflicts

STDERR = Path("/dev/stderr")


def check_outputs(options: Options) -> None:
    """Raise IernError if an output would overwrite an input or another output, or lacks the packages that it needs."""
    refuse_conflicts(_inputs(options), _outputs(options))
    if options.annotate:
        _check_annotated(options.source, options.annotate)
    if options.mqtt:
        require_mqtt()
    if options.serve:
        from iern.runtime.serve.server import require_libraries  # late: a loop without a page needs no server

        require_libraries()


def _inputs(options: Options) -> NamedPaths:
    return {
        "--source": (path for spec in options.sources for path in _source_files(spec)),
        "--allow-source": (path for spec in options.allow_source for path in _source_files(spec)),
        "--model": _model_files(options.model),
        "--mqtt-ca": options.mqtt_ca,
        "the bundled face detector": YUNET,
        "the bundled clip": DEMO_CLIP,
    }


def _outputs(options: Options) -> NamedPaths:
    printed = [STDERR] if options.writes_to_stdout else [STDOUT, STDERR]
    return {
        "--record": _recordings(options.record) if options.record else None,
        "--still": options.still,
        "--annotate": _annotated(options.source, options.annotate) if options.annotate else None,
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
    return (file for file in files_below(path) if is_image_file(file))


def _check_annotated(source: str, folder: Path) -> None:
    """Raise OutputError if `folder` is read, is no folder, or has a picture that would be replaced."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: --annotate writes into a folder, and this is a file; choose another name")
    read = Path(source)
    if read.is_dir() and folder.resolve().is_relative_to(read.resolve()):
        raise OutputError(f"{folder}: --annotate would write into --source, which is read; choose a folder outside")
    for path in _annotated(source, folder):
        if os.path.lexists(path):
            raise OutputError(f"{path}: exists, and --annotate replaces no picture; choose a new or empty folder")


def _annotated(source: str, folder: Path) -> Iterator[Path]:
    """The pictures that --annotate may write."""
    read = Path(source)
    for file in _source_files(source):
        yield annotated_path(folder, file.relative_to(read).as_posix() if read.is_dir() else file.name)


def _model_files(model: Path) -> Sequence[Path]:
    """The model's file, and the files that belong to an engine."""
    if model.suffix.lower() != ".engine":
        return (model,)
    return *files_of_engine(model), model.with_suffix(".onnx")


def _recordings(path: Path) -> Sequence[Path]:
    """The recording, and the existing files of the names in which it may continue, as NAME-001.EXT."""
    pattern = f"{glob.escape(path.stem)}-[0-9][0-9][0-9]*{glob.escape(path.suffix)}"
    return [path, *path.parent.glob(pattern)]
