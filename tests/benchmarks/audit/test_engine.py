"""An engine is audited together with the exported file it was built from, over the doubles of TensorRT and a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from doubles.gpu.engine_folder import make_engine
from doubles.gpu.pycuda_on_double import environment
from doubles.tiny_network import EXPRESSIONS
from iern.train.cartoons.data_set import plan, write
from repository import ROOT

PROGRAM = (
    "from doubles.gpu.on_doubles import *; from benchmarks.audit import __main__; sys.exit(__main__.main(sys.argv[1:]))"
)

HALF_ROUNDING = 5e-4
"""As between the sessions themselves."""


@pytest.mark.slow
def test_over_doubles_an_engine_predicts_the_same_for_changed_faces_as_its_exported_file(tmp_path):
    variables = environment()
    engine, data, target = (tmp_path / name for name in ("tiny.engine", "data", "audit.json"))
    make_engine(engine, "kernel")
    write(data, plan(identities=3, expressions=EXPRESSIONS), size=48)
    arguments = [engine.with_suffix(".onnx"), engine, "--data", data, "--provider", "cpu", "--json", target]
    arguments += ["--changes", "under-exposure", "noise"]
    path = os.pathsep.join([variables["PYTHONPATH"], str(ROOT)])
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        env={**variables, "PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    exported, built = json.loads(target.read_text(encoding="utf-8"))["models"]
    assert (exported["name"], exported["precision"], exported["provider"]) == ("tiny.onnx", "fp16", "cpu")
    assert (built["name"], built["precision"], built["provider"]) == ("tiny.engine", "fp16", "tensorrt, head kernel")
    shifts = [[cell["shift"] for grades in model["grades"].values() for cell in grades] for model in (exported, built)]
    largest_difference = max(abs(one - other) for one, other in zip(*shifts, strict=True))
    assert largest_difference < HALF_ROUNDING < max(shifts[0]) / 10
