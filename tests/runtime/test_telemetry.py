"""Nothing leaves the machine: the libraries below send nothing and leave no identity behind."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from iern.runtime.bundled import MODEL
from repository import CODE, python_files, relative

SILENCED_BY = {"ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "GITHUB_ACTIONS", "TF_BUILD", "GITLAB_CI"}
"""Variables in whose presence onnxruntime sends nothing. They may be set where these tests run."""
OF_THE_LIBRARY = f"""
import onnxruntime
onnxruntime.InferenceSession({str(MODEL)!r})
"""
OF_THE_PROJECT = """
import numpy
from iern.runtime import ExpressionRecognizer
with ExpressionRecognizer() as recognizer:
    recognizer(numpy.zeros((120, 160, 3), numpy.uint8))
"""
IN_FLOAT32 = OF_THE_PROJECT.replace("Recognizer()", "Recognizer(precision='fp32')")
"""The same without the choice of a precision, whose measurement is kept in the cache folder."""


def files_left_by(program: str, home: Path, *prefix: str) -> list[str]:
    """What the program leaves in an empty home folder; it must end well and print nothing."""
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in SILENCED_BY}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    command = [*prefix, sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    return sorted(path.name for path in home.rglob("*") if path.is_file())


@pytest.mark.skipif(sys.platform != "linux", reason="the place of onnxruntime's device id is known for Linux")
def test_a_run_leaves_no_device_id_and_no_queue_of_events(tmp_path):
    assert files_left_by(IN_FLOAT32, tmp_path / "ours") == []
    assert set(files_left_by(OF_THE_PROJECT, tmp_path / "choosing")) <= {"speed.json"}
    if Version(version("onnxruntime")) >= Version("1.29"):
        no_network = ("env", "http_proxy=127.0.0.1:9", "https_proxy=127.0.0.1:9")
        left = files_left_by(OF_THE_LIBRARY, tmp_path / "theirs", *no_network)
        assert "deviceid" in left, "onnxruntime no longer leaves one: this test shows nothing any more"


def test_a_user_without_a_home_folder_gets_no_warning(tmp_path):
    absent = {*SILENCED_BY, "HOME", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in absent}
    command = [sys.executable, "-c", OF_THE_PROJECT]
    result = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def first_line(text: str, *starts: str) -> int:
    """The number of the first line that begins so; a large number if none does."""
    return next((at for at, line in enumerate(text.splitlines()) if line.startswith(starts)), 10**6)


def test_a_module_that_imports_onnxruntime_at_its_top_imports_the_runtime_package_before_it():
    """Inside a function it may be imported at any time: by then the packages of this project are there."""
    for path in python_files(*CODE):
        text = path.read_text(encoding="utf-8")
        theirs = first_line(text, "import onnxruntime", "from onnxruntime")
        assert first_line(text, "import iern.runtime", "from iern.runtime") <= theirs, relative(path)


def test_the_hub_client_of_the_training_side_adds_no_usage_data():
    program = """
import iern.train.network.weights
from huggingface_hub import constants
assert constants.HF_HUB_DISABLE_TELEMETRY
"""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
