"""The package: its dependencies, the content of its wheel, and the start of its commands."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from repository import (
    CODE,
    PACKAGES,
    ROOT,
    build_wheel,
    imports,
    installed_path,
    modules_of,
    owners_of_modules,
    pyproject,
    python_files,
    relative,
    top_level,
    tracked_files,
    tree,
    with_their_needs,
)

ENGINES = {"onnxruntime", "onnxruntime-gpu"}
OPENCVS = {"opencv-python", "opencv-python-headless"}
RUNTIMES = ("cpu", "gpu", "cpu-headless", "gpu-headless")

EXTRAS_OF = {
    "runtime": ["cpu"],
    "cpp_ext": ["cpu", "export"],
    "train": ["cpu", "train"],
    "export": ["cpu", "export"],
    "benchmarks": ["cpu", "train", "export", "serve"],
    "tests": ["cpu", "train", "export", "dev"],
}


def declared(*extras: str) -> set[str]:
    """Distribution names of the core dependencies and of the named extras."""
    project = pyproject()["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    return {canonicalize_name(Requirement(text).name) for text in texts}


def modules_brought_by(distributions: set[str]) -> set[str]:
    """Top-level import names of the distributions: those of the installed ones, and their own names."""
    # The flavours of OpenCV and of onnxruntime contain the same modules, and one of each is installed.
    engines = {"cv2", "onnxruntime"} if distributions & (ENGINES | OPENCVS) else set()
    own_names = {name.replace("-", "_") for name in distributions}
    return engines | own_names | {module for module, owners in owners_of_modules().items() if distributions & owners}


def commands() -> list[Path]:
    """The files meant to be run: those with `if __name__ == "__main__":`."""
    guard = ast.unparse(ast.parse('__name__ == "__main__"'))
    return [
        path
        for path in python_files(*CODE)
        if any(isinstance(node, ast.If) and ast.unparse(node.test) == guard for node in tree(path).body)
    ]


def scripts() -> list[Path]:
    """The commands that are run by their path. Benchmarks and packages are run as modules."""
    return [path for path in commands() if not relative(path).startswith("benchmarks/") and path.stem != "__main__"]


def modules_to_run() -> list[str]:
    """The import names of the other commands. An installed benchmark is run as one of the repository."""
    names = [
        relative(path) if relative(path).startswith("benchmarks/") else str(installed_path(path))
        for path in set(commands()) - set(scripts())
    ]
    return sorted(name.removesuffix(".py").removesuffix("/__main__").replace("/", ".") for name in names)


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, encoding="utf-8", check=False)


@pytest.mark.parametrize("extra", RUNTIMES)
def test_a_runtime_extra_has_exactly_one_engine_and_one_opencv(extra):
    names = declared(extra)
    assert len(names & ENGINES) == len(names & OPENCVS) == 1


@pytest.mark.parametrize("extra", ["train", "export", "engine", "dev"])
def test_the_other_extras_can_be_combined_with_every_runtime_extra(extra):
    assert not declared(extra) & (ENGINES | OPENCVS)


def test_the_runtime_is_light():
    assert declared("cpu") == {"numpy", "av", "onnxruntime", "opencv-python", "simplejpeg"}


@pytest.mark.parametrize("folder", EXTRAS_OF)
def test_every_import_is_declared_by_the_extras_of_its_folder(folder):
    allowed = modules_brought_by(declared(*EXTRAS_OF[folder])) | set(sys.stdlib_module_names) | {"iern"}
    if folder not in PACKAGES:
        allowed |= {"benchmarks", "doubles", "repository", "fakes", "learnt_calls"}
    for path in python_files(folder):
        undeclared = top_level(imports(path, at_run_time=True)) - allowed
        assert not undeclared, f"{relative(path)} imports {sorted(undeclared)}"


@pytest.mark.parametrize("path", scripts(), ids=relative)
def test_a_command_answers_help_when_run_as_a_script_from_anywhere(path, tmp_path):
    result = run(path, "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert path.name in result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", modules_to_run())
def test_a_command_answers_help_when_run_as_a_module_from_the_root(module):
    result = run("-m", module, "--help", cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: python -m {module} ")


def test_the_two_commands_of_the_user_are_among_those_that_answer_help():
    assert {"export/to_trt.py", "runtime/webcam.py"} <= {relative(path) for path in scripts()}


def test_the_exporter_needs_nothing_that_only_training_needs(tmp_path):
    absent = modules_brought_by(declared("train")) - modules_brought_by(with_their_needs(declared("cpu", "export")))
    assert {"lightning_fabric", "tensorboard"} <= absent
    modules = modules_of("export")
    program = textwrap.dedent(
        f"""
        import importlib, sys
        for name in {sorted(absent)}:
            sys.modules[name] = None  # any import of it now raises ModuleNotFoundError
        for module in {modules}:
            importlib.import_module(module)
        """
    )
    result = run("-c", program, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_engines_are_built_from_an_exported_file_with_little_more_than_the_runtime(tmp_path):
    """The command checks a file while every module of the other extras is blocked."""
    shutil.copy(ROOT / "runtime" / "models" / "iern_edge.onnx", tmp_path / "office.onnx")
    absent = modules_brought_by(declared("train", "export", "dev")) - modules_brought_by(
        with_their_needs(declared("cpu", "engine"))
    )
    assert {"torch", "timm"} <= absent
    program = textwrap.dedent(
        f"""
        import sys
        for name in {sorted(absent)}:
            sys.modules[name] = None  # any import of it now raises ModuleNotFoundError
        import iern.export.engine.build
        from iern.export.to_trt import main
        sys.exit(main(["office.onnx", "--backend", "none"]))
        """
    )
    result = run("-c", program, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "sound" in result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build_wheel(tmp_path_factory.mktemp("wheel")))


@pytest.mark.slow
def test_the_wheel_holds_every_module_model_and_recipe_under_iern_and_nothing_else(wheel):
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    # The bundled checkpoint is in the repository only, because the runtime reads no checkpoint.
    data = [path for path in tracked_files() if path.suffix not in {".py", ".pt"}]
    expected = {name for path in [*data, *python_files(*CODE)] if (name := installed_path(path))}
    assert inside == expected
    assert inside >= {"iern/runtime/models/yunet.onnx", "iern/cpp_ext/binaries/strata_tail.sm_87.cubin"}
    assert "iern/cpp_ext/frame/binaries/frame.sm_87.cubin" in inside


@pytest.mark.slow
def test_an_unpacked_wheel_runs_without_the_repository(wheel, tmp_path):
    wheel.extractall(tmp_path)
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from iern.runtime import webcam
        from iern.runtime.faces import detector as detect
        assert detect.__file__.startswith({str(tmp_path)!r}), detect.__file__
        import numpy
        assert detect.FaceDetector()(numpy.zeros((120, 160, 3), numpy.uint8)) == []
        from iern.cpp_ext.kernel_binaries import binaries_for
        assert len(list(binaries_for("sm_87"))) == 2
        """
    )
    result = run("-c", program, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_the_wheel_states_its_licence_and_its_oldest_python(wheel):
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    text = wheel.read(metadata).decode("utf-8")
    assert "License-Expression: MIT\n" in text
    assert "Requires-Python: >=3.10\n" in text
    licences = {name.split(".dist-info/licenses/")[1] for name in wheel.namelist() if ".dist-info/licenses/" in name}
    assert "LICENSE" in licences


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_python_that_is_too_old_is_refused_before_anything_is_made(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    old = tmp_path / "python3.8"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.10" && exit\nexit 1\n', encoding="utf-8")
    old.chmod(0o755)
    result = subprocess.run(
        ["make", "demo", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
    )
    assert result.returncode != 0
    assert "Python 3.10 or newer is needed, found: Python 3.8.10" in result.stderr
    assert not (tmp_path / ".venv").exists()
