"""The commands in messages work where the reader is."""

from __future__ import annotations

import pytest

from iern.runtime.system import remedies
from repository import ROOT


def test_in_a_checkout_a_script_is_run_by_its_path():
    assert remedies.IN_CHECKOUT
    assert remedies.run_script("export/to_trt.py") == "python export/to_trt.py"


@pytest.mark.parametrize("script", ["export/to_trt.py", "train/fit.py", "train/calibrate.py", "runtime/webcam.py"])
def test_with_an_installed_wheel_it_is_run_as_a_module_that_exists(monkeypatch, script):
    monkeypatch.setattr(remedies, "IN_CHECKOUT", False)
    python, option, module = remedies.run_script(script).split()
    assert (python, option, module.partition(".")[0]) == ("python", "-m", "iern")
    assert (ROOT / f"{module.partition('.')[2].replace('.', '/')}.py") == ROOT / script
    assert (ROOT / script).is_file()
