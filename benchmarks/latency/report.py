"""What latency.py measured, for people: two tables in Markdown and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.latency.forms import BATCHED, GRAPH, PUBLISHED, WAYS
from benchmarks.latency.macs import PARTS
from iern.runtime.system.files import atomic_path, write_text

matplotlib.use("Agg")  # before pyplot: draws without a display
from matplotlib import pyplot as plt

COLOURS = {PUBLISHED: "#8c8c8c", BATCHED: "#d08c3c", GRAPH: "#2c6fb0"}

Record = Mapping[str, Any]


def write_report(record: Record, folder: Path) -> tuple[Path, Path]:
    """Write latency.md and latency.png into `folder` and return their paths."""
    table, figure = folder / "latency.md", folder / "latency.png"
    write_text(table, markdown(record))
    _plot(record, figure)
    return table, figure


def markdown(record: Record) -> str:
    """The machine, the latencies and the multiply-adds as a page."""
    machine, peak = record["machine"], max(record["sgemm"]["gflops"])
    packages = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    parts = [
        "# Latency of one face",
        "**A quick run: these numbers mean nothing.**" if record["quick"] else "",
        f"{machine['cpu']}, threads {machine['threads']}, cores {machine['cores']}, {machine['system']}, "
        f"{record['measured']}. {packages}. Written by `python -m benchmarks.latency`.",
        f"Float32, batch 1, {record['repeats']} calls of each way in turns. `published` is PyTorch, one stratum after "
        "another; `batched` is PyTorch, one call of g_r for all strata; `graph` is the exported file in onnxruntime. "
        "*Faster* is the published way's median over the way's own, *multiply-adds alone* what that ratio would be if "
        "time went by the number of multiply-adds.",
        _latency_table(record),
        "![latency](latency.png)",
        "## Multiply-adds, and what the machine makes of them",
        "Millions of multiply-adds for one face, naive -> graph. The head is g_r and f_c for every stratum. GFLOP/s "
        "are two operations for each multiply-add of a way, over its median. The fastest product of two "
        f"{record['sgemm']['size']} x {record['sgemm']['size']} matrices here reached {peak:.1f} GFLOP/s; the "
        "percentages are of that. Below 100 % lie layers that move more than they compute, and the calls themselves; "
        "above it would be an algorithm with fewer multiply-adds than were counted.",
        _macs_table(record, peak),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _latency_table(record: Record) -> str:
    rows = []
    for measured in record["configurations"]:
        reference = float(np.median(measured["milliseconds"][PUBLISHED]))
        for way in WAYS:
            p50, p90, p99 = np.percentile(measured["milliseconds"][way], (50, 90, 99))
            rows.append(
                (
                    *(measured["preset"], str(measured["strata"]), way, measured["settings"][way]),
                    *(_milliseconds(p50), _milliseconds(p90), _milliseconds(p99), f"{reference / p50:.2f}x"),
                    f"{_predicted(measured, way):.2f}x",
                )
            )
    header = ("preset", "strata", "way", "runs as", "p50 ms", "p90 ms", "p99 ms", "faster", "multiply-adds alone")
    return _table(header, rows, words=4)


def _macs_table(record: Record, peak: float) -> str:
    rows = []
    for measured in record["configurations"]:
        naive, graph = measured["macs"]["naive"], measured["macs"]["graph"]
        counts = [f"{naive[part] / 1e6:.1f} -> {graph[part] / 1e6:.1f}" for part in PARTS]
        total = f"{sum(naive.values()) / 1e6:.1f} -> {sum(graph.values()) / 1e6:.1f}"
        attained = [_gflops(measured, way) for way in WAYS]
        speeds = [f"{value:.1f} ({value / peak:.0%})" for value in attained]
        rows.append((measured["preset"], str(measured["strata"]), *counts, total, *speeds))
    header = ("preset", "strata", *PARTS, "all", *(f"{way} GFLOP/s" for way in WAYS))
    return _table(header, rows, words=1)


def _macs(measured: Record, way: str) -> int:
    """Multiply-adds that a way does for one face."""
    return sum(measured["macs"]["graph" if way == GRAPH else "naive"].values())


def _predicted(measured: Record, way: str) -> float:
    return _macs(measured, PUBLISHED) / _macs(measured, way)


def _gflops(measured: Record, way: str) -> float:
    return 2 * _macs(measured, way) / 1e6 / float(np.median(measured["milliseconds"][way]))


def _milliseconds(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """A Markdown table whose first `words` columns are set left, the numbers behind them right."""
    rule = [":---" if column < words else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def _plot(record: Record, path: Path) -> None:
    """Medians as bars with the 90th percentile as whisker; a dotted line where multiply-adds alone put the graph."""
    presets = list(dict.fromkeys(measured["preset"] for measured in record["configurations"]))
    figure, axes = plt.subplots(1, len(presets), figsize=(5 * len(presets), 3.8), squeeze=False, layout="constrained")
    for axis, preset in zip(axes[0], presets, strict=True):
        _bars(axis, [measured for measured in record["configurations"] if measured["preset"] == preset])
        axis.set(title=preset, xlabel="strata N", ylabel="ms for one face")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False, loc="upper left")
    machine = record["machine"]
    figure.suptitle(f"{machine['cpu']}, threads {machine['threads']}, float32, batch 1", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)


def _bars(axis: Any, configurations: Sequence[Record]) -> None:
    width = 0.8 / len(WAYS)
    for place, measured in enumerate(configurations):
        reference = float(np.median(measured["milliseconds"][PUBLISHED]))
        for index, way in enumerate(WAYS):
            x = place + (index - (len(WAYS) - 1) / 2) * width
            p50, p90 = np.percentile(measured["milliseconds"][way], (50, 90))
            label = way if place == 0 else None
            axis.bar(x, p50, 0.92 * width, yerr=[[0], [p90 - p50]], capsize=2, color=COLOURS[way], label=label)
            if way == GRAPH:
                predicted = reference / _predicted(measured, way)
                label = "graph, by multiply-adds alone" if place == 0 else None
                axis.hlines(predicted, x - width / 2, x + width / 2, color="black", linestyle=":", label=label)
            axis.annotate(f"{reference / p50:.1f}x", (x, p90), (0, 3), textcoords="offset points", ha="center", size=8)
    axis.set_xticks(range(len(configurations)), [str(measured["strata"]) for measured in configurations])
    axis.margins(y=0.2)
