"""The commands in messages work where the reader is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from iern.runtime.system import remedies
from iern.runtime.system.command_table import COMMANDS
from repository import ROOT


def test_in_a_checkout_a_script_is_run_by_its_path():
    assert remedies.IN_CHECKOUT
    assert remedies.run_script("export/to_trt.py") == "python export/to_trt.py"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("export/to_trt.py", "iern export"),
        ("train/fit.py", "iern train"),
        ("runtime/webcam.py", "iern webcam"),
        ("export/to_int8.py", "python -m iern.export.to_int8"),
    ],
)
def test_with_an_installed_wheel_it_is_a_command_of_iern_or_a_module(monkeypatch, script, words):
    monkeypatch.setattr(remedies, "IN_CHECKOUT", False)
    assert remedies.run_script(script) == words
    assert (ROOT / script).is_file()


@pytest.fixture
def typed_iern(monkeypatch):
    monkeypatch.setattr(remedies, "_invocation", ("iern", COMMANDS[0]))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("python train/fit.py --config train/recipes/edge.yaml --data ROOT", "iern train --config edge --data ROOT"),
        ("  evaluate.py ckpt.onnx --data ROOT", "  iern evaluate ckpt.onnx --data ROOT"),
        ("python -m iern.runtime.doctor --json", "iern doctor --json"),
        ("python -m benchmarks.audit a.onnx", "iern audit a.onnx"),
        ("a checkpoint of train/fit.py.", "a checkpoint of iern train."),
        ("torchrun --nnodes 2 ... train/fit.py --config x", "torchrun --nnodes 2 ... -m iern.train.fit --config x"),
        ("an 8-bit file (export/to_int8.py)", "an 8-bit file (python -m iern.export.to_int8)"),
        ("my_evaluate.py and refit.py are not ours", "my_evaluate.py and refit.py are not ours"),
    ],
)
def test_help_is_in_the_words_that_the_reader_typed(typed_iern, written, read):
    assert remedies.in_words_of_reader(written) == read


def test_help_of_a_script_in_a_checkout_names_the_script():
    assert remedies.in_words_of_reader("python train/fit.py") == "python train/fit.py"


def test_an_extra_is_installed_with_the_running_python_also_if_its_environment_is_not_activated(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert remedies.install("train") == f"{sys.executable} -m pip install 'iern[train]'"
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert remedies.install("train").endswith("python -m pip install 'iern[train]'")
