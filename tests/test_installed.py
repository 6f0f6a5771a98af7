"""The built wheel in fresh environments, away from the repository: it is a product by itself."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from iern.runtime.system.command_table import COMMANDS
from repository import build_wheel

pytestmark = pytest.mark.slow

OLDEST, NEWEST_TRIED = 10, 20
"""Minor versions of Python 3."""


def interpreters() -> dict[int, Path]:
    """Minor version -> an interpreter of Python 3 on this machine, from the path or from pyenv."""
    found: dict[int, Path] = {}
    for minor in range(OLDEST, NEWEST_TRIED):
        candidates = [shutil.which(f"python3.{minor}"), *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")]
        for candidate in filter(None, candidates):
            probe = subprocess.run([candidate, "-c", "import venv, ensurepip"], capture_output=True, check=False)
            if probe.returncode == 0:
                found[minor] = Path(candidate)
                break
    return found


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def environment(folder: Path, python: str | Path, wheel: Path) -> Path:
    """A fresh environment that holds the wheel and nothing else: its folder of programs."""
    made = run(python, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    assert made.returncode == 0, made.stderr
    programs = folder / "bin"
    pip = ("-m", "pip", "--python", programs / "python", "install", "--no-deps", "--no-index", wheel)
    installed = run(sys.executable, *pip, cwd=folder.parent)
    assert installed.returncode == 0, installed.stderr
    return programs


@pytest.fixture(scope="module", params=["oldest", "newest"])
def bare(request, tmp_path_factory, wheel) -> Path:
    """The wheel without any dependency, on the oldest Python that it supports, and on the newest one here."""
    found = interpreters()
    minor = OLDEST if request.param == "oldest" else max(found, default=OLDEST)
    if minor not in found:
        pytest.skip(f"there is no Python 3.{minor} on this machine")
    return environment(tmp_path_factory.mktemp("bare") / "venv", found[minor], wheel)


@pytest.fixture(scope="module")
def full(tmp_path_factory, wheel) -> Path:
    """The wheel beside the packages of the running Python, which are seen through a path file.

    Its own `iern` comes first, and an editable install of that Python is not seen.
    """
    programs = environment(tmp_path_factory.mktemp("full") / "venv", sys.executable, wheel)
    (site,) = programs.parent.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return programs


def test_help_and_version_work_without_any_dependency(bare, tmp_path):
    for start in ([bare / "iern"], [bare / "python", "-m", "iern"]):
        helped = run(*start, "--help", cwd=tmp_path)
        assert (helped.returncode, helped.stderr) == (0, "")
        assert "not installed yet: " in helped.stdout
    version = run(bare / "iern", "--version", cwd=tmp_path)
    program = "from importlib.metadata import version; import iern; assert iern.__version__ == version('iern')"
    assert run(bare / "python", "-c", program, cwd=tmp_path).returncode == 0
    assert re.fullmatch(r"iern \d+\.\d+\.\d+\n", version.stdout)


@pytest.mark.parametrize("name", [each.name for each in COMMANDS if each.name != "doctor"])
def test_a_command_without_its_extra_is_one_line_and_pip_takes_the_command_in_it(bare, tmp_path, name):
    result = run(bare / "iern", name, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1, result.stderr
    python, *words = shlex.split(result.stderr.partition("; ")[2].partition(", or")[0])
    assert Path(python) == bare / "python"
    assert words[:3] == ["-m", "pip", "install"]
    # Without a network and without dependencies: pip takes the `iern` that is installed, and knows the extra.
    pip = run(sys.executable, "-m", "pip", "--python", python, *words[2:], "--no-deps", "--no-index", cwd=tmp_path)
    assert pip.returncode == 0, pip.stderr
    assert "does not provide the extra" not in pip.stderr


def test_the_doctor_reports_what_is_absent_and_its_remedy(bare, tmp_path):
    result = run(bare / "iern", "doctor", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (1, "")
    assert "the webcam loop cannot run: numpy, opencv, onnxruntime" in result.stdout


@pytest.mark.parametrize("name", [each.name for each in COMMANDS])
def test_the_help_of_a_command_names_what_can_be_typed_without_the_repository(full, tmp_path, name):
    result = run(full / "iern", name, "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: iern {name} ")
    assert not re.findall(r"(?:train|export|runtime)/\w+\.py|-m benchmarks|recipes/\w+", result.stdout)
    modules = set(re.findall(r"python -m (iern[\w.]*)", result.stdout))  # of scripts that have no short name
    assert not modules & {each.module.removesuffix(".__main__") for each in COMMANDS}


def test_the_loop_runs_on_the_bundled_clip_and_writes_into_the_current_folder(full, tmp_path):
    options = ("--demo", "--headless", "--max-frames", "5", "--jsonl", "faces.jsonl")
    result = run(full / "iern", "webcam", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "faces.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[-1])["faces"]


def test_a_recipe_is_found_by_its_name_and_a_wrong_name_is_one_line_with_the_right_ones(full, tmp_path):
    printed = run(full / "iern", "train", "--config", "cartoon", "--print_config", cwd=tmp_path)
    assert printed.returncode == 0, printed.stderr
    assert "data: cartoon\n" in printed.stdout
    wrong = run(full / "iern", "train", "--config", "cartoons", cwd=tmp_path)
    assert wrong.returncode == 2
    assert re.search(r"no recipe 'cartoons'; expected one of cartoon, edge", wrong.stderr)
    assert wrong.stderr.count("\n") == 1


@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_the_runtime_from_the_registry_runs_the_loop(which, wheel, tmp_path):
    """On the oldest supported Python, and on the newest one here, with today's releases of the dependencies."""
    found = interpreters()
    minor = OLDEST if which == "oldest" else max(found, default=OLDEST)
    if minor not in found:
        pytest.skip(f"there is no Python 3.{minor} on this machine")
    assert run(found[minor], "-m", "venv", tmp_path / "venv", cwd=tmp_path).returncode == 0
    programs = tmp_path / "venv" / "bin"
    pip = (programs / "python", "-m", "pip", "install", "--retries", "1", "--timeout", "30")
    if run(*pip, "numpy>=2", cwd=tmp_path).returncode:
        pytest.skip("no package registry is reached")
    installed = run(*pip, f"{wheel}[cpu-headless]", cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    result = run(programs / "iern", "webcam", "--demo", "--headless", "--max-frames", "5", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
