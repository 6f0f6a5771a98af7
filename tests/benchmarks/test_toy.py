"""The toy experiment runs, can be continued, and its baseline drops out of distribution. No method has to win."""

from __future__ import annotations

import json

import pytest

from benchmarks.toy import __main__ as toy
from benchmarks.toy.report import rows

SMALL = ["--people", "20", "--passes", "2", "--seeds", "0"]


@pytest.mark.slow
def test_the_baseline_drops_where_an_expression_meets_a_degradation_it_never_had():
    figures = toy.train_and_assess("baseline", seen=1, seed=7, people=100, passes=4)
    inside, outside = (figures["protocols"]["1"][where] for where in ("i.d.", "o.o.d."))
    assert outside["n"] == 2 * inside["n"]
    # Chance is 1/7. A model that knew the degradation alone would reach 3/7 inside.
    assert inside["accuracy"] > 2 / 7
    assert outside["accuracy"] < inside["accuracy"] - 0.2


@pytest.mark.slow
def test_the_experiment_runs_for_every_method_and_can_be_continued(tmp_path, monkeypatch, capsys):
    out = tmp_path / "toy.json"
    assert toy.main([*SMALL, "--out", str(out), "--methods", "iern", "--protocols", "1"]) == 0
    first = json.loads(out.read_text(encoding="utf-8"))["runs"]
    assert list(first) == ["iern/1/0"]
    assert set(first["iern/1/0"]["probes"]) == {"base", "emotion", "context"}
    assert toy.main([*SMALL, "--out", str(out), "--protocols", "1"]) == 0
    runs = json.loads(out.read_text(encoding="utf-8"))["runs"]
    assert list(runs) == ["iern/1/0", "baseline/1/0", "disentanglement/1/0", "input/3/0"]
    assert runs["iern/1/0"] == first["iern/1/0"]
    assert set(runs["input/3/0"]["protocols"]) == {"1", "2"}
    page = (tmp_path / "toy.md").read_text(encoding="utf-8")
    assert "o.o.d. minus baseline" in page and "| iern | 1 |" in page
    assert (tmp_path / "toy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"runs": {}, "configuration": {"people": 1}}'])
def test_results_of_something_else_are_refused_and_left_alone(content, tmp_path, capsys):
    out = tmp_path / "toy.json"
    out.write_text(content, encoding="utf-8")
    assert toy.main([*SMALL, "--out", str(out)]) == 1
    assert "move it away" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == content


def figures(inside: float, outside: float) -> dict:
    return {"protocols": {"1": {"i.d.": {"accuracy": inside}, "o.o.d.": {"accuracy": outside}}}, "probes": {}}


def test_the_gain_is_paired_by_seed():
    """Seeds differ far more than methods: a constant gain has no width, and a seed without its partner is left out."""
    runs = {f"baseline/1/{seed}": figures(0.9, 0.1 * seed) for seed in range(5)}
    runs |= {f"iern/1/{seed}": figures(0.8, 0.1 * seed + 0.05) for seed in range(6)}
    table = {row[0]: row for row in rows(runs, seen=1)}
    assert table["iern"][-1] == "5.0% [5.0%, 5.0%]"
    assert table["iern"][1] == "6" and table["baseline"][-1] == ""
