"""An engine that does not fit is built again if the user asks for it, with the command in its error."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from doubles.gpu.made_up_manifest import made_up_manifest
from doubles.tiny_artifact import tiny_artifact, tiny_model
from iern.runtime.backends.onnx import OnnxSession
from iern.runtime.backends.trt import rebuild
from iern.runtime.backends.trt.engine_file import build_command, manifest_path, read_manifest, write_engine
from iern.runtime.backends.trt.rebuild import open_or_rebuild
from iern.runtime.errors import ArtifactError, EngineError, SessionError
from iern.runtime.session import Session
from iern.runtime.webcam import main

MISFIT = "was built by TensorRT 10.3.0, here is 10.13.3.9"


@pytest.fixture
def engine(tmp_path) -> Path:
    onnx, path = tmp_path / "tiny.onnx", tmp_path / "tiny.engine"
    onnx.write_bytes(tiny_model())
    write_engine(path, b"plan", made_up_manifest(onnx))
    return path


@pytest.fixture
def builder(tmp_path, monkeypatch) -> Path:
    """A double of the Python that builds: it writes its arguments, one per line, and ends with $STATUS."""
    program, noted = tmp_path / "python", tmp_path / "arguments"
    program.write_text(
        f'#!/bin/sh\necho "it builds"\nprintf "%s\\n" "$@" > {noted}\nexit ${{STATUS:-0}}\n', encoding="utf-8"
    )
    program.chmod(0o755)
    monkeypatch.setattr(rebuild.sys, "executable", str(program))
    return noted


def opens_once_built(engine: Path, noted: Path, error: Exception):
    """Return a function that raises the error until the engine has been built again, then opens the exported file."""

    def opened() -> Session:
        if not noted.exists():
            raise error
        return OnnxSession(engine.with_suffix(".onnx"), "cpu")

    return opened


@pytest.mark.parametrize("kind", [EngineError, ArtifactError])
def test_the_engine_is_built_with_the_command_in_the_error_and_then_opens(engine, builder, capfd, kind):
    with open_or_rebuild(engine, opens_once_built(engine, builder, kind(MISFIT)), rebuild=True) as session:
        assert session.artifact == tiny_artifact()
    _, *arguments = shlex.split(build_command(engine, read_manifest(engine)))
    assert builder.read_text(encoding="utf-8").splitlines() == arguments
    assert capfd.readouterr().out == f"{MISFIT}\nbuilding it again, which takes minutes\nit builds\n"


def test_without_the_option_the_error_names_it(engine, builder):
    with pytest.raises(EngineError, match=rf"^{MISFIT}; or add --rebuild to do that$"):
        open_or_rebuild(engine, opens_once_built(engine, builder, EngineError(MISFIT)), rebuild=False)
    assert not builder.exists()


def test_an_engine_that_fits_is_not_built(engine, builder):
    open_or_rebuild(engine, lambda: OnnxSession(engine.with_suffix(".onnx"), "cpu"), rebuild=True).close()
    assert not builder.exists()


def test_a_machine_that_cannot_run_engines_builds_none(engine, builder):
    with pytest.raises(SessionError, match=r"^no pycuda$"):
        open_or_rebuild(engine, opens_once_built(engine, builder, SessionError("no pycuda")), rebuild=True)
    assert not builder.exists()


@pytest.mark.parametrize("missing", ["manifest", "onnx"])
def test_without_its_manifest_or_exported_file_an_engine_is_refused_as_without_the_option(engine, builder, missing):
    (manifest_path(engine) if missing == "manifest" else engine.with_suffix(".onnx")).unlink()
    for option in (True, False):
        with pytest.raises(EngineError, match=rf"^{MISFIT}$"):
            open_or_rebuild(engine, opens_once_built(engine, builder, EngineError(MISFIT)), option)
    assert not builder.exists()


def test_a_build_that_fails_is_reported_with_its_status(engine, builder, monkeypatch):
    monkeypatch.setitem(os.environ, "STATUS", "3")
    with pytest.raises(EngineError, match=r"could not be built again \(status 3, see above\); .*\.onnx"):
        open_or_rebuild(engine, opens_once_built(engine, builder, EngineError(MISFIT)), rebuild=True)


def test_the_loop_builds_nothing_for_an_engine_whose_manifest_is_gone(engine, builder, capsys):
    manifest_path(engine).unlink()
    assert main(["--model", str(engine), "--source", str(engine), "--headless", "--rebuild"]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert not builder.exists()


def test_the_error_of_the_loop_for_a_damaged_plan_has_the_option(engine, capsys):
    engine.write_bytes(b"another")
    assert main(["--model", str(engine), "--source", str(engine), "--headless"]) == 1
    assert "is not the plan that its manifest describes; build it again: python -m" in (
        message := capsys.readouterr().err
    )
    assert message.endswith("; or add --rebuild to do that\n")


def test_the_option_is_for_engines_only(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--model", "tiny.onnx", "--rebuild"])
    assert end.value.code == 2
    assert "--rebuild needs a --model that ends in .engine, found tiny.onnx" in capsys.readouterr().err
