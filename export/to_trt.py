"""Command: checkpoint -> verified ONNX file and TensorRT engine; or exported file -> engine; for a server too."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iern.runtime.system.command import command

from iern.export.command_line import parse
from iern.export.engine.plan_builder import Backend, BuildOptions, check_options, check_starts, load_backend
from iern.runtime.backends.server_address import SERVED_NAME
from iern.runtime.backends.trt.engine_file import files_of_engine
from iern.runtime.errors import EngineError, IernError
from iern.runtime.session import MAX_BATCH, batch_sizes
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.file_conflicts import NamedPaths, refuse_conflicts

if TYPE_CHECKING:
    from iern.export.parity.gate_faces import GateFaces


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and return its exit status."""
    options = parse(argv)
    refuse_conflicts(_inputs(options), _outputs(options))
    if options.model.suffix == ".engine":
        _publish(options, options.model)
    elif options.model.suffix == ".onnx":
        _from_exported(options)
    else:
        _from_checkpoint(options)


def _inputs(options: argparse.Namespace) -> NamedPaths:
    from iern.train.data.manifest import input_files  # late: it imports OpenCV

    faces = options.faces
    return {"MODEL": options.model, "--faces": [*faces.iterdir(), *input_files(faces)] if faces.is_dir() else faces}


def _target(options: argparse.Namespace) -> Path:
    """The float32 file that a checkpoint is exported to."""
    suffix = ".collapsed.onnx" if options.strata == "collapsed" else ".onnx"
    return options.output or options.model.with_suffix(suffix)


def _outputs(options: argparse.Namespace) -> NamedPaths:
    """Every file that may be written, under the option that names it."""
    exported: list[Path]
    if options.model.suffix == ".engine":
        exported, engines = [], []
    elif options.model.suffix == ".onnx":
        exported, engines = [], [options.output or options.model.with_suffix(".engine")]
    else:
        exported = [_target(options).with_suffix(suffix) for suffix in (".onnx", ".fp16.onnx")]
        engines = [path.with_suffix(".engine") for path in exported]
    return {
        "--output": [*exported, *(file for engine in engines for file in files_of_engine(engine))],
        "--timing-cache": options.timing_cache,
        "--log": options.log,
        "--triton": options.triton and options.triton / SERVED_NAME / "config.pbtxt",
    }


def _from_checkpoint(options: argparse.Namespace) -> None:
    import torch  # late: it takes seconds to import, which --help should not wait for

    from iern.export.convert import ExportOptions, convert
    from iern.export.parity.gate_faces import GateFaces
    from iern.export.progress import track_faces

    backend = _backend(options)
    torch.set_num_threads(cpu_budget())
    precision = options.precision or ("fp16" if isinstance(backend, Backend) else "fp32")
    faces = GateFaces(options.faces)
    wanted = ExportOptions(
        precision == "fp16", options.strata == "collapsed", options.data, options.licence, options.prior
    )
    written = convert(options.model, _target(options), faces, wanted, track=track_faces)
    served = _build(options, backend, written[-1], written[-1].with_suffix(".engine"), faces)
    _publish(options, served)


def _from_exported(options: argparse.Namespace) -> None:
    from iern.export.engine.build import precision_of
    from iern.export.parity.gate_faces import GateFaces
    from iern.export.parity.verify import summary, verify

    if options.data or options.licence:
        raise IernError(f"{options.model}: is already exported; leave out --data and --licence")
    if options.strata == "collapsed":
        raise IernError(f"{options.model}: is already exported; export its checkpoint with --strata collapsed")
    if options.prior is not None:
        raise IernError(
            f"{options.model}: is already exported; leave out --prior here, and give it to webcam.py, or export the "
            "checkpoint with it"
        )
    backend = _backend(options)
    faces = GateFaces(options.faces)
    graph, artifact, count = verify(options.model, faces)
    precision = precision_of(graph)
    if options.precision not in (None, precision):
        raise IernError(
            f"{options.model}: is {precision}, and an engine has the precision of its file; export the checkpoint "
            f"with --precision {options.precision}, or use its other file"
        )
    print(f"{options.model}: {summary(artifact)}, {precision}")
    print(f"sound: valid graph, all weights inside, outputs of onnxruntime on {count} images agree")
    served = _build(options, backend, options.model, options.output or options.model.with_suffix(".engine"), faces)
    _publish(options, served)


def _backend(options: argparse.Namespace) -> Backend | str:
    """The backend, or the reason why there is none. Raises EngineError instead if an engine is required."""
    from iern.export.engine.build import check_machine

    if options.backend == "none":
        return "--backend none"
    wanted = "rtx" if options.compute_capability and options.backend == "auto" else options.backend
    try:
        backend = load_backend(wanted)
        check_options(_build_options(options), backend)
        check_machine(backend.name)
        check_starts(backend)
    except EngineError as error:
        if options.engine_required:
            raise
        return str(error)
    return backend


def _build(options: argparse.Namespace, backend: Backend | str, source: Path, target: Path, faces: GateFaces) -> Path:
    """Build the engine `target` of the file `source` if there is a backend -> the one of the two to use."""
    from iern.export.engine.build import build_engine
    from iern.export.progress import build_bars

    if isinstance(backend, str):
        if options.triton is None:
            print(f"no engine is built: {backend}; the ONNX file is complete without one")
        return source
    with build_bars() as on_step:
        manifest = build_engine(source, target, backend, _build_options(options), faces, on_step)
    print(f"wrote {target}: {target.stat().st_size / 1e6:.1f} MB, sha256 {manifest.plan_sha256}")
    return target


def _publish(options: argparse.Namespace, path: Path) -> None:
    """Write the exported file or the engine into the repository of --triton, if there is one."""
    if options.triton is None:
        return
    from iern.export.triton_repository.repository import publish, served_file

    publish(served_file(path), options.triton)


def _build_options(options: argparse.Namespace) -> BuildOptions:
    return BuildOptions(
        head=options.head,
        batches=tuple(batch_sizes(options.max_batch or MAX_BATCH)),
        workspace=(options.workspace or 1024) << 20,
        targets=tuple(options.compute_capability),
        timing_cache=options.timing_cache,
        log=options.log,
        any_batch=options.triton is not None,
    )


if __name__ == "__main__":
    sys.exit(main())
