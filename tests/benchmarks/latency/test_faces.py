"""The benchmark of several faces times both kinds of calls and reports their percentiles."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.latency import faces


def test_rows_are_the_percentiles_of_the_samples():
    batched, singly = list(np.linspace(1, 3, 101)), [8.0] * 101
    row = faces.rows([{"faces": 4, "batched": batched, "singly": singly}])[0]
    assert row == ("4", "2.00", "2.98", "8.00", "4.00x", "0.50")
    assert len(row) == len(faces.HEAD)


def test_the_bundled_model_is_timed_with_one_and_three_faces(tmp_path, capsys):
    out = tmp_path / "faces.json"
    assert faces.main(["--faces", "1", "3", "--repeats", "4", "--json", str(out)]) == 0
    results = json.loads(out.read_text(encoding="utf-8"))
    assert [found["faces"] for found in results["numbers"]] == [1, 3]
    assert all(len(found[kind]) == 4 for found in results["numbers"] for kind in ("batched", "singly"))
    assert min(min(found[kind]) for found in results["numbers"] for kind in ("batched", "singly")) > 0
    assert out.with_suffix(".md").read_text(encoding="utf-8") in capsys.readouterr().out


def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path, capsys):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"nothing")
    assert faces.main([str(path), "--json", str(tmp_path / "out.json")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("number", ["0", "x"])
def test_a_number_of_faces_is_at_least_one(number):
    with pytest.raises(SystemExit):
        faces.main(["--faces", number])
