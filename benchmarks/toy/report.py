"""What toy.py found, for people: accuracies with intervals, what the probes read, and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from rich.console import Console

from benchmarks.common.intervals import interval
from benchmarks.common.tables import markdown_table, print_table
from iern.runtime.system.files import atomic_path, write_text

matplotlib.use("Agg")  # before pyplot: draws without a display
from matplotlib import pyplot as plt

Runs = Mapping[str, Mapping[str, Any]]
"""`method/degradations seen/seed` -> figures."""
COLOURS = {"baseline": "#8c8c8c", "disentanglement": "#d08c3c", "iern": "#2c6fb0", "input": "#5a9a5a"}


def accuracies(runs: Runs, method: str, seen: int, where: str) -> dict[int, float]:
    """Seed -> accuracy of `method` under the protocol `seen`; `where` is `i.d.` or `o.o.d.`."""
    found = {}
    for key, figures in runs.items():
        name, _, seed = key.split("/")
        if name == method and str(seen) in figures["protocols"]:
            found[int(seed)] = figures["protocols"][str(seen)][where]["accuracy"]
    return found


def rows(runs: Runs, seen: int) -> list[tuple[str, ...]]:
    """One row a method: seeds, accuracy i.d. and o.o.d., and o.o.d. minus the baseline's, paired by seed."""
    table = []
    baseline = accuracies(runs, "baseline", seen, "o.o.d.")
    for method in COLOURS:
        inside, outside = (accuracies(runs, method, seen, where) for where in ("i.d.", "o.o.d."))
        if not inside:
            continue
        paired = [outside[seed] - baseline[seed] for seed in outside if seed in baseline]
        gain = str(interval(paired)) if paired and method != "baseline" else ""
        table.append(
            (method, str(len(inside)), str(interval([*inside.values()])), str(interval([*outside.values()])), gain)
        )
    return table


def probe_rows(runs: Runs, seen: int) -> list[tuple[str, ...]]:
    """One row a method and feature: how well a linear probe reads the expression and the degradation."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for key, figures in runs.items():
        method, degradations, _ = key.split("/")
        if int(degradations) == seen or method == "input":
            for feature, probes in figures["probes"].items():
                found.setdefault((method, feature), []).append(probes)
    return [
        (method, feature, *(str(interval([p[label]["accuracy"] for p in probes])) for label in PROBED))
        for (method, feature), probes in found.items()
    ]


PROBED = ("expression", "degradation")
HEAD = ("method", "seeds", "i.d.", "o.o.d.", "o.o.d. minus baseline")
PROBE_HEAD = ("method", "feature", *(f"reads the {label}" for label in PROBED))


def write_report(runs: Runs, results: Path, console: Console) -> tuple[Path, Path]:
    """Print the tables, write them and the plot beside `results`, and return the two paths."""
    page, plot = results.with_suffix(".md"), results.with_suffix(".png")
    protocols = sorted({int(seen) for figures in runs.values() for seen in figures["protocols"]})
    for seen in protocols:
        print_table(
            console, f"{seen} of 3 degradations seen: accuracy, 95 % interval over seeds", HEAD, rows(runs, seen)
        )
    write_text(page, markdown(runs, protocols, plot.name))
    _plot(runs, protocols, plot)
    return page, plot


def markdown(runs: Runs, protocols: Sequence[int], plot: str) -> str:
    """The results as a page."""
    parts = [
        "# The toy experiment",
        "Written by `python -m benchmarks.toy`, whose head says what is compared. Accuracy on people not trained on, "
        "mean over seeds and its 95 % bootstrap interval; with so few seeds an interval is rough. `input` is the "
        "intervention on the input; it is the one method that sees the o.o.d. pairs in training.",
        f"![accuracy]({plot})",
    ]
    for seen in protocols:
        parts += [
            f"## Each expression under {seen} of 3 degradations",
            markdown_table(HEAD, rows(runs, seen)),
            "Linear probes on frozen features, people apart, over all pairs (chance: expression 1/7, degradation 1/3):",
            markdown_table(PROBE_HEAD, probe_rows(runs, seen)),
        ]
    return "\n\n".join(parts) + "\n"


def _plot(runs: Runs, protocols: Sequence[int], path: Path) -> None:
    """Every seed a dot, o.o.d. above i.d.: what confounding costs, and what a method wins back."""
    figure, axes = plt.subplots(1, len(protocols), figsize=(5 * len(protocols), 4), sharey=True, squeeze=False)
    for axis, seen in zip(axes[0], protocols, strict=True):
        for place, where in enumerate(("i.d.", "o.o.d.")):
            for offset, (method, colour) in enumerate(COLOURS.items()):
                values = [*accuracies(runs, method, seen, where).values()]
                label = method if place == 0 else None
                axis.scatter([place + (offset - 1.5) * 0.15] * len(values), values, color=colour, label=label, s=18)
        axis.axhline(1 / 7, color="black", linewidth=0.6, linestyle=":")
        axis.set(title=f"{seen} of 3 degradations seen", xticks=(0, 1), ylim=(0, 1), ylabel="accuracy")
        axis.set_xticklabels(("in distribution", "out of distribution"))
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    plt.close(figure)
