"""The Dockerfiles, as far as they can be checked without Docker: rules, paths, extras, versions. None is built."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from doubles.gpu.tensorrt_over_stubs import BINDINGS
from repository import PACKAGES, ROOT, installed_path, pyproject, relative, tracked_files

DOCKERFILES = sorted((ROOT / "docs" / "docker").glob("*.Dockerfile"))
# Looked up next to this Python first, because its folder may not be on the path.
HADOLINT = shutil.which("hadolint", path=os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", ""))))

dockerfiles = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)


def instructions(path: Path) -> list[list[str]]:
    """The words of every instruction, without comments, and with continued lines joined."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [shlex.split(line) for line in joined.splitlines() if line.strip()]


def words_of(path: Path, instruction: str) -> list[list[str]]:
    return [words[1:] for words in instructions(path) if words[0] == instruction]


def arguments(path: Path) -> dict[str, str]:
    """Build arguments and their defaults. One without a default is an error: the user would have to pass it."""
    return dict(word.split("=", 1) for words in words_of(path, "ARG") for word in words)


def page(path: Path) -> str:
    """The page that explains how to use a Dockerfile."""
    return (ROOT / "docs" / f"{path.name.partition('.')[0]}.md").read_text(encoding="utf-8")


def test_there_is_one_for_a_jetson_and_one_for_a_desktop():
    assert [path.name for path in DOCKERFILES] == ["desktop.Dockerfile", "jetson.Dockerfile"]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed; its wheel is for Linux on x86_64 and aarch64")
@dockerfiles
def test_hadolint_finds_nothing(path):
    assert HADOLINT is not None
    result = subprocess.run([HADOLINT, "--no-color", path], capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def copied(path: Path) -> list[tuple[str, list[Path]]]:
    """The paths that are copied out of the repository, each with its files."""
    sources = [word for words in words_of(path, "COPY") if not words[0].startswith("--from=") for word in words[:-1]]
    files = tracked_files()
    return [(source, [file for file in files if f"{relative(file)}/".startswith(f"{source}/")]) for source in sources]


@dockerfiles
def test_what_is_copied_is_in_the_repository(path):
    assert len(copied(path)) >= len(PACKAGES)
    assert not [source for source, files in copied(path) if not files]


@pytest.mark.slow
@dockerfiles
def test_the_package_can_be_built_from_what_is_copied(path, tmp_path):
    source = tmp_path / "source"
    for file in [file for _, files in copied(path) for file in files]:
        target = source / relative(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    build = ("pip", "wheel", source, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", tmp_path)
    result = subprocess.run([sys.executable, "-m", *build], capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {name for file in tracked_files() if (name := installed_path(file))}
    assert {name for name in expected if name.endswith((".py", ".onnx", ".cubin"))} <= inside


@dockerfiles
def test_it_installs_one_runtime_and_the_extra_that_builds_engines(path):
    (extras,) = re.findall(r"'\.\[([\w,-]+)\]'", path.read_text(encoding="utf-8"))
    assert set(extras.split(",")) <= set(pyproject()["project"]["optional-dependencies"])
    assert "engine" in extras.split(",")
    assert len({"cpu-headless", "gpu-headless"} & set(extras.split(","))) == 1


@dockerfiles
def test_its_base_has_a_tag_that_an_argument_fixes(path):
    defaults = arguments(path)
    images = [words[0] for words in words_of(path, "FROM")]
    assert images
    for image in images:
        name, _, tag = re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], image).partition(":")
        assert name.startswith(("nvcr.io/nvidia/", "nvidia/"))
        assert re.search(r"\d+\.\d+\.\d+", tag), image


@dockerfiles
def test_every_argument_is_used_and_its_default_is_on_the_page(path):
    text = path.read_text(encoding="utf-8")
    for name, value in arguments(path).items():
        assert f"${{{name}}}" in text, name
        assert f"`{name}={value}`" in page(path), f"{name}={value}"


@dockerfiles
def test_the_page_shows_how_to_build_it_and_how_to_run_it_with_gpu_and_camera(path):
    name = path.name.partition(".")[0]
    gpu = {"jetson": "--runtime nvidia", "desktop": "--gpus all"}[name]
    text = " ".join(page(path).split())
    assert f"docker build --file {relative(path)} --tag iern-{name} ." in text
    assert f"docker run --rm {gpu} iern-{name}" in text
    assert "--device /dev/video0" in text


@dockerfiles
def test_it_does_not_run_as_root_and_starts_a_module_of_ours(path):
    last = {words[0]: words[1:] for words in instructions(path)}
    assert last["USER"] == ["iern"]
    assert last["ENTRYPOINT"] == ["[python,", "-m]"]
    assert last["CMD"] == ["[iern.runtime.doctor]"]


def test_the_desktop_installs_a_tensorrt_whose_calls_the_tests_know():
    assert arguments(DOCKERFILES[0])["TENSORRT"] in BINDINGS


def test_both_install_the_same_pycuda():
    assert len({arguments(path)["PYCUDA"] for path in DOCKERFILES}) == 1
