"""The latency benchmark counts right and runs to its end. What it measures is not asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.latency.__main__ import main
from benchmarks.latency.implementations import IMPLEMENTATIONS, exported_file
from benchmarks.latency.macs import macs_of_graph, macs_of_network
from benchmarks.latency.report import markdown
from iern.train.network.config import from_preset
from iern.train.network.iern import IERN
from repository import ROOT


def convolution(width: int, pixels: int) -> int:
    """Multiply-adds of one 3x3 convolution of as many channels out as in."""
    return 9 * width * width * pixels


def small(strata: int, **changes) -> IERN:
    """ResNet-18 cut early, at 32 px: a network whose export takes seconds."""
    names = tuple("abc"[:strata])
    values = {"backbone": "resnet18", "stride": 8, "image_size": 32, "width": 16, **changes}
    return IERN(from_preset("edge", expressions=("glad", "sad"), strata=names, **values)).eval()


@pytest.mark.parametrize("strata", [1, 3])
def test_the_paper_network_costs_what_a_hand_count_says(strata):
    with torch.device("meta"):
        names = tuple("abc"[:strata])
        network = IERN(from_preset("paper", expressions=("glad", "sad"), strata=names))
    counted = macs_of_network(network.eval())
    unit = convolution(512, 7 * 7)
    assert counted["backbone"] == pytest.approx(4.15e9, rel=5e-3)
    # g_e: five convolutions; g_r: the first reads twice the channels, then six; f_c: 512 channels to two expressions.
    assert counted["generator"] == 5 * unit == pytest.approx(0.58e9, rel=1e-2)
    assert counted["head"] == strata * (8 * unit + 512 * 2) == pytest.approx(0.92e9 * strata, rel=1e-2)


@pytest.mark.parametrize("strata", [1, 3])
def test_the_graph_costs_what_a_hand_count_says(strata):
    width, pixels, expressions = 16, 4 * 4, 2
    network = small(strata)
    counted, naive = macs_of_graph(exported_file(network)), macs_of_network(network)
    unit = convolution(width, pixels)
    # Stem 7x7 to 16x16, pooled to 8x8; stage 1: four 3x3 of 64; stage 2: one from 64 and three of 128, and a shortcut
    # of 1x1; the projection.
    stem, first = 16 * 16 * 64 * 3 * 49, 4 * convolution(64, 64)
    second = pixels * (128 * 64 * 9 + 128 * 64) + 3 * convolution(128, pixels)
    assert counted["backbone"] == naive["backbone"] == stem + first + second + pixels * 128 * width
    assert counted["generator"] == naive["generator"] == 5 * unit
    # Window sums, what they are weighed with, and the classifier on the mean of the residual stream.
    tail = width * pixels * 9 + 9 * width * expressions + width * expressions
    assert counted["head"] == (2 + 4 * strata) * unit + strata * tail
    assert naive["head"] == strata * (8 * unit + width * expressions)


@pytest.mark.slow
def test_the_papers_graph_costs_what_was_counted_by_hand():
    names = ("a", "b", "c")
    network = IERN(from_preset("paper", expressions=("glad", "sad"), strata=names)).eval()
    counted = macs_of_graph(exported_file(network))
    assert counted["backbone"] == pytest.approx(4.15e9, rel=5e-3)
    assert counted["generator"] == pytest.approx(0.58e9, rel=1e-2)
    assert counted["head"] == pytest.approx(0.23e9 + 0.46e9 * len(names), rel=1e-2)


def test_the_command_writes_samples_tables_and_a_plot(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.latency.__main__.random_network", lambda preset, strata: small(strata))
    target = tmp_path / "latency_here.json"
    assert main(["--quick", "--strata", "2", "--threads", "1", "--json", str(target)]) == 0
    check_written(target)


@pytest.mark.slow
def test_the_command_times_a_preset_in_a_process_of_its_own(tmp_path):
    target = tmp_path / "latency_here.json"
    options = ["--quick", "--strata", "2", "--threads", "1", "--json", target]
    command = [sys.executable, "-m", "benchmarks.latency", *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
    check_written(target)


def check_written(target: Path) -> None:
    """The samples, and their tables and plot beside them."""
    folder = target.parent
    assert sorted(path.name for path in folder.iterdir()) == ["latency.md", "latency.png", target.name]
    results = json.loads(target.read_text(encoding="utf-8"))
    (measured,) = results["configurations"]
    assert (measured["preset"], measured["strata"]) == ("edge", 2)
    counts = {name: len(samples) for name, samples in measured["milliseconds"].items()}
    assert counts == dict.fromkeys(IMPLEMENTATIONS, 3)
    assert all(sample > 0 for samples in measured["milliseconds"].values() for sample in samples)
    assert (folder / "latency.md").read_text(encoding="utf-8") == markdown(results)
    assert (folder / "latency.png").read_bytes().startswith(b"\x89PNG")


def test_a_ratio_is_the_published_median_over_the_implementations_own():
    naive = {"backbone": 10_000_000, "generator": 0, "head": 30_000_000}
    results = {
        "machine": {"cpu": "abacus", "threads": 1, "cores": 1, "system": "wood"},
        "versions": {},
        "measured": "2000-01-01",
        "quick": False,
        "repeats": 3,
        "sgemm": {"size": 2, "gflops": [4.0, 8.0]},
        "configurations": [
            {
                "preset": "edge",
                "strata": 3,
                "settings": dict.fromkeys(IMPLEMENTATIONS, "somehow"),
                "macs": {"naive": naive, "graph": {**naive, "head": 10_000_000}},
                "milliseconds": {"published": [30, 20, 10], "batched": [16, 16, 16], "graph": [8, 8, 80]},
            }
        ],
    }
    page = markdown(results)
    assert "| edge | 3 | batched | somehow | 16.0 | 16.0 | 16.0 | 1.25x | 1.00x |" in page
    assert "| edge | 3 | graph | somehow | 8.00 | 65.6 | 78.6 | 2.50x | 2.00x |" in page
    # 80 million operations in 20 ms and in 16 ms, 40 million in 8 ms; the peak is the fastest seen.
    assert "| 40.0 -> 20.0 | 4.0 (50%) | 5.0 (62%) | 5.0 (62%) |" in page


def test_help_explains_the_three_implementations(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in IMPLEMENTATIONS) and "one stratum after another" in shown


def test_a_count_of_zero_is_refused(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--repeats", "0"])
    assert left.value.code == 2
    assert "expected a whole number of at least 1, found '0'" in capsys.readouterr().err
