"""What `python -m benchmarks.latency` measured: a page with two tables, and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.common.results import Results
from benchmarks.latency.implementations import BATCHED, GRAPH, IMPLEMENTATIONS, PUBLISHED
from benchmarks.latency.macs import PARTS
from iern.runtime.system.files import atomic_path, write_text
from iern.train.evaluation.markdown import markdown_table

matplotlib.use("Agg")  # before pyplot: draws without a display
from matplotlib import pyplot as plt

COLOURS = {PUBLISHED: "#8c8c8c", BATCHED: "#d08c3c", GRAPH: "#2c6fb0"}


def report_paths(folder: Path) -> tuple[Path, Path]:
    """The paths of the page and of the plot."""
    return folder / "latency.md", folder / "latency.png"


def write_report(results: Results, folder: Path) -> tuple[Path, Path]:
    """Write latency.md and latency.png into `folder` and return their paths."""
    table, figure = report_paths(folder)
    write_text(table, markdown(results))
    _plot(results, figure)
    return table, figure


def markdown(results: Results) -> str:
    """The machine, the latencies and the multiply-adds as a page."""
    machine, peak = results["machine"], max(results["sgemm"]["gflops"])
    packages = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    parts = [
        "# Latency of one face",
        "**A quick run: these numbers mean nothing.**" if results["quick"] else "",
        f"{machine['cpu']}, threads {machine['threads']}, cores {machine['cores']}, {machine['system']}, "
        f"{results['measured']}. {packages}. Written by `python -m benchmarks.latency`.",
        f"Float32, batch 1, {results['repeats']} calls of each implementation in turns. `published` is PyTorch, one "
        "stratum after another; `batched` is PyTorch, one call of g_r for all strata; `graph` is the exported file in "
        "onnxruntime. *Faster* is the median of `published` over that of the implementation. *Multiply-adds alone* is "
        "what that ratio would be if the time depended on the number of multiply-adds alone.",
        _latency_table(results),
        "![latency](latency.png)",
        "## Multiply-adds, and how fast the machine does them",
        "Millions of multiply-adds for one face, naive -> graph. The head is g_r and f_c for every stratum. GFLOP/s "
        "count two operations for each multiply-add of an implementation, over its median. The fastest product of two "
        f"{results['sgemm']['size']} x {results['sgemm']['size']} matrices here reached {peak:.1f} GFLOP/s; the "
        "percentages are of that. They are below 100 % because some layers move more data than they compute, and "
        "because calls take time. Above 100 % would be an algorithm with fewer multiply-adds than were counted.",
        _macs_table(results, peak),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _latency_table(results: Results) -> str:
    rows = []
    for measured in results["configurations"]:
        reference = float(np.median(measured["milliseconds"][PUBLISHED]))
        for name in IMPLEMENTATIONS:
            p50, p90, p99 = np.percentile(measured["milliseconds"][name], (50, 90, 99))
            rows.append(
                (
                    *(measured["preset"], str(measured["strata"]), name, measured["settings"][name]),
                    *(_milliseconds(p50), _milliseconds(p90), _milliseconds(p99), f"{reference / p50:.2f}x"),
                    f"{_predicted(measured, name):.2f}x",
                )
            )
    times = ("p50 ms", "p90 ms", "p99 ms", "faster", "multiply-adds alone")
    head = ("preset", "strata", "implementation", "runs as", *times)
    return markdown_table(head, rows, left=4)


def _macs_table(results: Results, peak: float) -> str:
    rows = []
    for measured in results["configurations"]:
        naive, graph = measured["macs"]["naive"], measured["macs"]["graph"]
        counts = [f"{naive[part] / 1e6:.1f} -> {graph[part] / 1e6:.1f}" for part in PARTS]
        total = f"{sum(naive.values()) / 1e6:.1f} -> {sum(graph.values()) / 1e6:.1f}"
        attained = [_gflops(measured, name) for name in IMPLEMENTATIONS]
        speeds = [f"{value:.1f} ({value / peak:.0%})" for value in attained]
        rows.append((measured["preset"], str(measured["strata"]), *counts, total, *speeds))
    head = ("preset", "strata", *PARTS, "all", *(f"{name} GFLOP/s" for name in IMPLEMENTATIONS))
    return markdown_table(head, rows, left=1)


def _macs(measured: Results, name: str) -> int:
    """Multiply-adds of an implementation for one face."""
    return sum(measured["macs"]["graph" if name == GRAPH else "naive"].values())


def _predicted(measured: Results, name: str) -> float:
    return _macs(measured, PUBLISHED) / _macs(measured, name)


def _gflops(measured: Results, name: str) -> float:
    return 2 * _macs(measured, name) / 1e6 / float(np.median(measured["milliseconds"][name]))


def _milliseconds(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _plot(results: Results, path: Path) -> None:
    """Medians as bars with the 90th percentile as whisker; a dotted line is the graph by multiply-adds alone."""
    presets = list(dict.fromkeys(measured["preset"] for measured in results["configurations"]))
    figure, axes = plt.subplots(1, len(presets), figsize=(5 * len(presets), 3.8), squeeze=False, layout="constrained")
    for axis, preset in zip(axes[0], presets, strict=True):
        _bars(axis, [measured for measured in results["configurations"] if measured["preset"] == preset])
        axis.set(title=preset, xlabel="strata N", ylabel="ms for one face")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False, loc="upper left")
    machine = results["machine"]
    figure.suptitle(f"{machine['cpu']}, threads {machine['threads']}, float32, batch 1", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)


def _bars(axis: Any, configurations: Sequence[Results]) -> None:
    width = 0.8 / len(IMPLEMENTATIONS)
    for place, measured in enumerate(configurations):
        reference = float(np.median(measured["milliseconds"][PUBLISHED]))
        for index, name in enumerate(IMPLEMENTATIONS):
            x = place + (index - (len(IMPLEMENTATIONS) - 1) / 2) * width
            p50, p90 = np.percentile(measured["milliseconds"][name], (50, 90))
            label = name if place == 0 else None
            axis.bar(x, p50, 0.92 * width, yerr=[[0], [p90 - p50]], capsize=2, color=COLOURS[name], label=label)
            if name == GRAPH:
                predicted = reference / _predicted(measured, name)
                label = "graph, by multiply-adds alone" if place == 0 else None
                axis.hlines(predicted, x - width / 2, x + width / 2, color="black", linestyle=":", label=label)
            axis.annotate(f"{reference / p50:.1f}x", (x, p90), (0, 3), textcoords="offset points", ha="center", size=8)
    axis.set_xticks(range(len(configurations)), [str(measured["strata"]) for measured in configurations])
    axis.margins(y=0.2)
